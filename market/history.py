"""The history of a market: bars for the features, marks for the accounts, fine closes for labels.

Bars come from folders in the order given: a later folder fills what the earlier ones lack. Marks
go by kind: ``mark`` prices, else perpetual, else spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from market.bar_files import BarFolder, BarKind, SymbolBars, find_files, read_bars
from market.clock import Interval
from market.errors import DataError
from market.panel import BASIS, CLOSE, CONTEXT_WIDTH, HIGH, LOW, BarPanel
from market.quality import FileQuality, QualityReport

Floats = npt.NDArray[np.float64]

MAX_GAP_HOURS = 24
"""A mark is held through a gap of at most this long; beyond it the symbol counts as absent."""

MARK_ORDER: tuple[BarKind, ...] = ("mark", "perp", "spot")
"""Which kind of price marks an account, first choice first."""


@dataclass(frozen=True, slots=True)
class MarketHistory:
    """All that is known of a market.

    Attributes
    ----------
    bars:
        What the features see.
    mark, mark_high, mark_low:
        Mark price at each bar's close, and its extremes within the bar; shape (T, S). Between a
        symbol's first and last bar a gap of up to `MAX_GAP_HOURS` holds the last price; else NaN.
    fine_interval:
        The finest interval present.
    fine_mark:
        Marks at each close of the finest interval, shape (T * k, S) with k fine bars in a bar;
        symbols without fine bars step at the bar's close. The same array as `mark` where no finer
        bars exist.
    report:
        Faults found and policies applied.
    """

    bars: BarPanel
    mark: Floats
    mark_high: Floats
    mark_low: Floats
    fine_interval: Interval
    fine_mark: Floats
    report: QualityReport

    def last_mark(self, row: int) -> Floats:
        """Newest mark of each symbol at or before `row`, however old, shape (S,); NaN before any.

        What a decision at that close may know. `mark` says more: whether a gap that has begun
        will be a short one, which only the path of an account may be told.
        """
        known = self.mark[: row + 1 or None]
        newest = len(known) - 1 - np.argmax(~np.isnan(known[::-1]), axis=0)
        last: Floats = known[newest, np.arange(known.shape[1])]
        return last

    @classmethod
    def from_panel(cls, bars: BarPanel) -> MarketHistory:
        """History of one panel that is its own mark, as a simulated market is."""
        mark = _fill(bars.values[:, :, CLOSE], MAX_GAP_HOURS * bars.interval.per_hour)
        return cls(
            bars=bars,
            mark=mark,
            mark_high=_or_mark(bars.values[:, :, HIGH], mark),
            mark_low=_or_mark(bars.values[:, :, LOW], mark),
            fine_interval=bars.interval,
            fine_mark=mark,
            report=QualityReport(),
        )


def load_history(
    folders: Sequence[BarFolder], interval: Interval, symbols: Sequence[str] = ()
) -> MarketHistory:
    """Load bars from folders.

    Parameters
    ----------
    folders:
        In order of precedence.
    interval:
        The interval of the panel; finer files are aggregated.
    symbols:
        Bar symbols to load; all that are found when empty.

    Raises
    ------
    DataError
        A folder, file or symbol is missing or breaks the data contract.
    """
    loaded = [
        (folder, symbol, read_bars(path, folder.kind, interval))
        for folder in folders
        for symbol, path in find_files(folder, symbols).items()
    ]
    traded = sorted({symbol for folder, symbol, _ in loaded if folder.kind != "mark"})
    if missing := sorted(set(symbols) - set(traded)):
        where = ", ".join(str(folder.path) for folder in folders)
        raise DataError(f"no spot or perp bars for symbol(s) {', '.join(missing)} in {where}")
    if not traded:
        raise DataError("no spot or perp bars found; [market] bars needs at least one such folder")
    idle = [part for _, symbol, part in loaded if symbol not in traded or not len(part.opens)]
    loaded = [entry for entry in loaded if entry[1] in traded and len(entry[2].opens)]
    grid = _grid(loaded, interval)
    column = {symbol: i for i, symbol in enumerate(traded)}

    bars = np.full((len(grid), len(traded), 5), np.nan)
    kinds: dict[BarKind, Floats] = {}
    quality: list[FileQuality] = []
    for folder, symbol, part in loaded:
        rows, s = (part.opens - grid[0]) // interval.nanoseconds, column[symbol]
        of_kind = kinds.setdefault(folder.kind, np.full((len(grid), len(traded), 3), np.nan))
        fresh = np.isnan(of_kind[rows, s, 0])
        of_kind[rows[fresh], s] = part.values[fresh][:, [HIGH, LOW, CLOSE]]
        if folder.kind != "mark":
            fresh = np.isnan(bars[rows, s, CLOSE])
            bars[rows[fresh], s] = part.values[fresh]
        quality.append(replace(part.quality, used=int(fresh.sum())))
    quality += [part.quality for part in idle]

    chosen, counts = _choose_marks(kinds, traded, len(grid))
    mark = _fill(chosen[:, :, 2], MAX_GAP_HOURS * interval.per_hour)
    panel = BarPanel(interval, tuple(traded), grid, bars, _basis(kinds))
    fine_interval, fine_mark = _fine_marks(folders, loaded, panel, mark)
    return MarketHistory(
        bars=panel,
        mark=mark,
        mark_high=_or_mark(chosen[:, :, 0], mark),
        mark_low=_or_mark(chosen[:, :, 1], mark),
        fine_interval=fine_interval,
        fine_mark=fine_mark,
        report=QualityReport(tuple(quality), counts),
    )


_Loaded = list[tuple[BarFolder, str, SymbolBars]]


def _grid(loaded: _Loaded, interval: Interval) -> npt.NDArray[np.int64]:
    traded = [part.opens for folder, _, part in loaded if folder.kind != "mark"]
    if not traded:
        raise DataError("every spot and perp file is empty once faulty bars are dropped")
    # Marks may begin or end elsewhere; the grid covers everything that was read.
    opens = [part.opens for _, _, part in loaded]
    first, last = min(o[0] for o in opens), max(o[-1] for o in opens)
    return np.arange(first, last + interval.nanoseconds, interval.nanoseconds, dtype=np.int64)


def _choose_marks(
    kinds: dict[BarKind, Floats], symbols: list[str], rows: int
) -> tuple[Floats, dict[str, dict[str, int]]]:
    chosen = np.full((rows, len(symbols), 3), np.nan)
    counts: dict[str, dict[str, int]] = {symbol: {} for symbol in symbols}
    for kind in MARK_ORDER:
        if kind not in kinds:
            continue
        take = np.isnan(chosen[:, :, 2]) & ~np.isnan(kinds[kind][:, :, 2])
        chosen[take] = kinds[kind][take]
        for s, symbol in enumerate(symbols):
            counts[symbol][kind] = int(take[:, s].sum())
    return chosen, counts


def _basis(kinds: dict[BarKind, Floats]) -> Floats | None:
    """Context that knows the basis where both prices of a symbol exist; None where none do."""
    if "perp" not in kinds or "spot" not in kinds:
        return None
    basis = np.log(kinds["perp"][:, :, 2] / kinds["spot"][:, :, 2])
    if np.isnan(basis).all():
        return None
    context = np.full((*basis.shape, CONTEXT_WIDTH), np.nan)
    context[:, :, BASIS] = basis
    return context


def _fine_marks(
    folders: Sequence[BarFolder], loaded: _Loaded, panel: BarPanel, mark: Floats
) -> tuple[Interval, Floats]:
    finest = min((part.interval for _, _, part in loaded), key=lambda i: i.nanoseconds)
    per_bar = panel.interval.nanoseconds // finest.nanoseconds
    if per_bar == 1:
        return panel.interval, mark
    fine = np.full((len(panel) * per_bar, len(panel.symbols)), np.nan)
    fine[per_bar - 1 :: per_bar] = mark  # every path passes through the marks at the closes
    column = {symbol: i for i, symbol in enumerate(panel.symbols)}
    paths = {
        (folder.path, symbol): path
        for folder in folders
        for symbol, path in find_files(folder, ()).items()
    }
    for kind in MARK_ORDER:
        for folder, symbol, part in loaded:
            if folder.kind != kind or part.interval.nanoseconds == panel.interval.nanoseconds:
                continue
            own = read_bars(paths[folder.path, symbol], kind, part.interval)
            # A fine bar ends where a step of the finest grid ends.
            ends = (own.opens + own.interval.nanoseconds - panel.opens[0]) // finest.nanoseconds - 1
            inside = (ends >= 0) & (ends < len(fine))
            ends, closes = ends[inside], own.values[inside, CLOSE]
            fresh = np.isnan(fine[ends, column[symbol]])
            fine[ends[fresh], column[symbol]] = closes[fresh]
    dead = np.isnan(np.repeat(mark, per_bar, axis=0))
    fine = _fill(fine, MAX_GAP_HOURS * finest.per_hour)
    fine[dead] = np.nan
    return finest, fine


def _fill(prices: Floats, limit: int) -> Floats:
    """Hold the last price through gaps of up to `limit` rows, never beyond a symbol's last one."""
    known = ~np.isnan(prices)
    rows = np.arange(len(prices))[:, None]
    known_rows = np.where(known, rows, -1)
    last = np.maximum.accumulate(known_rows, axis=0)
    following = np.minimum.accumulate(np.where(known, rows, len(prices))[::-1], axis=0)[::-1]
    held = (last >= 0) & (following < len(prices)) & (following - last - 1 <= limit)
    filled = np.take_along_axis(prices, np.maximum(last, 0), axis=0)
    return np.ascontiguousarray(np.where(held, filled, np.nan))


def _or_mark(extremes: Floats, mark: Floats) -> Floats:
    return np.where(np.isnan(extremes), mark, extremes)
