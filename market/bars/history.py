"""The history of a market: bars for the features, marks for the accounts, fine closes for labels.

Bars come from folders in the order given: a later folder fills what the earlier ones lack. Marks
go by kind: ``mark`` prices, else perpetual, else spot. Features see bars as they were known in
time (`market.bars.bar_versions`), outcomes see them as they came to be true, and neither sees a bar
that the outlier filter dropped (`market.bars.outlier_filter`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from market.bars.bar_cleaning import load_bars
from market.bars.bar_sources import (
    MARK_ORDER,
    LoadedBars,
    common_grid,
    compare_files,
    merge_sources,
)
from market.bars.filtered_bars import (
    RECENT_ROWS,
    CombinedBars,
    Corrections,
    HistoryEnd,
    combine_bars,
    last_values,
)
from market.bars.outlier_filter import (
    MAX_GAP_HOURS,
    SUSPECT,
    OutlierFilter,
    Quarantine,
    filter_closes,
    filter_history,
    is_dropped,
    new_state,
)
from market.bars.panel import BASIS, CLOSE, EXOGENOUS_WIDTH, HIGH, LOW, BarPanel
from market.bars.quality import QualityReport
from market.bars.recorded_rows import RecordedRows, RecordedSource, RecordedUse
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import Interval
from market.core.errors import DataError
from market.sources.base import BarSource


@dataclass(frozen=True, slots=True)
class MarketHistory:
    """All that is known of a market.

    Attributes
    ----------
    bars:
        What the features see: at each row what was known at its close.
    mark, mark_high, mark_low:
        Mark price at each bar's close, and its extremes within the bar; shape (T, S). Between a
        symbol's first and last bar a gap of up to `MAX_GAP_HOURS` holds the last price; else NaN.
        Corrections are in them, whenever they came.
    fine_interval:
        The finest interval present.
    fine_mark:
        Marks at each close of the finest interval, shape (T * k, S) with k fine bars in a bar;
        symbols without fine bars step at the bar's close. The same array as `mark` where no finer
        bars exist.
    report:
        Faults found and policies applied.
    known_mark:
        Last mark known at each row's close, however old, shape (T, S); NaN before any. None where
        `mark` says the same.
    corrections:
        Rows that later ones see otherwise than `bars`; None where there are none.
    waiting:
        Where the newest bar or mark of a symbol is suspect, shape (T, S); None without a filter.
    quarantine:
        The bars that the outlier filter changed; None without one.
    end:
        What the endpoint goes on from; None where a history was not loaded but made.
    recorded:
        What became of the bars that the ledger records; None where there are none.
    """

    bars: BarPanel
    mark: Floats
    mark_high: Floats
    mark_low: Floats
    fine_interval: Interval
    fine_mark: Floats
    report: QualityReport
    known_mark: Floats | None = None
    corrections: Corrections | None = None
    waiting: Bools | None = None
    quarantine: Quarantine | None = None
    end: HistoryEnd | None = None
    recorded: RecordedUse | None = None

    def last_mark(self, row: int) -> Floats:
        """Newest mark of each symbol at or before `row`, however old, shape (S,); NaN before any.

        What a decision at that close may know. `mark` says more: whether a gap that has begun
        will be a short one, and what was corrected since, which only the path of an account may
        know.
        """
        if self.known_mark is not None:
            known: Floats = self.known_mark[row]
            return known
        return last_values(self.mark[: row + 1 or None])

    def decidable(self) -> Bools:
        """Where a symbol has a mark that was known at the row's close as it is now, shape (T, S).

        Elsewhere hindsight knows another mark than a decision could: an account that holds the
        symbol then belongs in no training row.
        """
        marked = ~np.isnan(self.mark)
        return marked if self.known_mark is None else marked & (self.known_mark == self.mark)

    def suspect_at(self, row: int) -> Bools:
        """Symbols whose newest bar or mark at the close of `row` is suspect, shape (S,)."""
        if self.waiting is None:
            return np.zeros(len(self.bars.symbols), dtype=np.bool_)
        suspect: Bools = self.waiting[row]
        return suspect

    def suspect_bars_at(self, row: int) -> tuple[Floats, Ints] | None:
        """Close of each bar that waits for confirmation at the close of `row`, and its time.

        As the endpoint says it,
        `monitoring.market_state.state.LiveMarketState.suspect_bars`.

        Returns
        -------
        Prices and nanoseconds, shape (S,) each; NaN and 0 where there is none. None where no bar
        waits.
        """
        row %= len(self.bars)
        price = np.full(len(self.bars.symbols), np.nan)
        ts = np.zeros(len(price), dtype=np.int64)
        held = self.quarantine
        if held is None:
            return None
        for column in np.flatnonzero(self.suspect_at(row)).tolist():
            own = (held.columns == column) & (held.verdicts == SUSPECT) & (held.rows <= row)
            if not own.any():
                continue  # its mark waits, not its bar
            last = int(np.flatnonzero(own)[-1])
            at = int(held.rows[last])
            if np.isnan(self.bars.values[at : row + 1, column, CLOSE]).all():
                price[column], ts[column] = held.values[last, CLOSE], self.bars.closes[at]
        return None if np.isnan(price).all() else (price, ts)

    @classmethod
    def from_panel(
        cls,
        bars: BarPanel,
        outlier_filter: OutlierFilter | None = None,
        recorded: RecordedRows | None = None,
    ) -> MarketHistory:
        """History of one panel that is its own mark, as a simulated market is."""
        use, references = None, None
        if recorded is not None:
            bars = _extended(bars, recorded)
            use = recorded.merge(bars.values, bars.opens)
            references = recorded.with_references(None, bars.opens)
            bars = recorded.with_exogenous(bars)
        recent_bars, waiting, quarantine = bars.values[-RECENT_ROWS:].copy(), None, None
        state = new_state(len(bars.symbols))
        if outlier_filter is not None:
            filtered = filter_history(bars.values, outlier_filter, bars.interval, references)
            bars = replace(bars, values=filtered.bars)
            waiting, state = filtered.waiting, filtered.state
            quarantine = filtered.quarantine
        mark = _fill(bars.values[:, :, CLOSE], MAX_GAP_HOURS * bars.interval.per_hour)
        return cls(
            bars=bars,
            mark=mark,
            mark_high=_or_mark(bars.values[:, :, HIGH], mark),
            mark_low=_or_mark(bars.values[:, :, LOW], mark),
            fine_interval=bars.interval,
            fine_mark=mark,
            report=QualityReport(),
            waiting=waiting,
            quarantine=quarantine,
            end=HistoryEnd(outlier_filter, state, recent_bars, last_values(mark)),
            recorded=use,
        )


def load_history(
    sources: Sequence[BarSource],
    interval: Interval,
    symbols: Sequence[str] = (),
    outlier_filter: OutlierFilter | None = None,
    recorded: RecordedSource | None = None,
) -> MarketHistory:
    """Load bars from sources.

    Parameters
    ----------
    sources:
        In order of precedence.
    interval:
        The interval of the panel; finer files are aggregated.
    symbols:
        Bar symbols to load; all that are found when empty.
    outlier_filter:
        Filters bars and marks; without one they are taken as they are.
    recorded:
        Asked for what the ledger records of these symbols; the history goes on through its bars.
        Context is left out: `RecordedRows.with_exogenous` puts it before that of the files.

    Raises
    ------
    DataError
        A folder, file or symbol is missing or breaks the data contract.
    """
    read = [
        LoadedBars(source, symbol, load_bars(source, symbol, interval))
        for source in sources
        for symbol in source.symbols(symbols)
    ]
    traded = sorted({file.symbol for file in read if file.source.kind != "mark"})
    if missing := sorted(set(symbols) - set(traded)):
        where = ", ".join(source.name for source in sources)
        raise DataError(f"no spot or perp bars for symbol(s) {', '.join(missing)} in {where}")
    if not traded:
        raise DataError("no spot or perp bars found; [market] bars needs at least one such folder")
    loaded = [file for file in read if file.symbol in traded and len(file.bars.opens)]
    grid = common_grid(loaded, interval)
    rows = None if recorded is None else recorded(traded, interval, grid)
    if rows is not None:
        grid = rows.extend(grid, interval)
    combined = combine_bars(loaded, traded, grid, interval, outlier_filter, rows)

    marks = combined.marks.values
    mark = _fill(marks[:, :, CLOSE], MAX_GAP_HOURS * interval.per_hour)
    context = _basis(loaded, traded, grid, interval, combined)
    panel = BarPanel(interval, tuple(traded), grid, combined.bars, context)
    fine_interval, fine_mark = _fine_marks(
        loaded, panel, mark, combined.mark_dropped, outlier_filter
    )
    return MarketHistory(
        bars=panel,
        mark=mark,
        mark_high=_or_mark(marks[:, :, HIGH], mark),
        mark_low=_or_mark(marks[:, :, LOW], mark),
        fine_interval=fine_interval,
        fine_mark=fine_mark,
        report=_report(read, loaded, panel, mark, combined),
        known_mark=combined.known_mark,
        corrections=combined.corrections,
        waiting=combined.waiting,
        quarantine=combined.quarantine,
        end=combined.end,
        recorded=combined.recorded,
    )


def _extended(bars: BarPanel, rows: RecordedRows) -> BarPanel:
    """A copy of a panel through the last of some recorded rows."""
    opens = rows.extend(bars.opens, bars.interval)
    context = None if bars.exogenous is None else _longer(bars.exogenous, len(opens))
    return BarPanel(bars.interval, bars.symbols, opens, _longer(bars.values, len(opens)), context)


def _longer(values: Floats, rows: int) -> Floats:
    """A copy with NaN rows at its end."""
    longer = np.full((rows, *values.shape[1:]), np.nan)
    longer[: len(values)] = values
    return longer


def _report(
    read: Sequence[LoadedBars],
    loaded: Sequence[LoadedBars],
    panel: BarPanel,
    mark: Floats,
    combined: CombinedBars,
) -> QualityReport:
    files = [
        replace(file.bars.quality, **asdict(found))
        for file, found in zip(loaded, combined.findings, strict=True)
    ]
    # By identity: equality would compare arrays.
    used = set(map(id, loaded))
    files += [file.bars.quality for file in read if id(file) not in used]
    kind_of = [MARK_ORDER.index(file.source.kind) for file in loaded]
    kinds = np.array([*kind_of, len(MARK_ORDER)])[combined.marks.source]
    present = [kind for k, kind in enumerate(MARK_ORDER) if k in kind_of]
    counts: dict[str, dict[str, int]] = {
        symbol: {str(kind): int((kinds[:, s] == MARK_ORDER.index(kind)).sum()) for kind in present}
        for s, symbol in enumerate(panel.symbols)
    }
    held = (np.isnan(combined.marks.values[:, :, CLOSE]) & ~np.isnan(mark)).sum(axis=0)
    hours = (held / panel.interval.per_hour).tolist()
    return QualityReport(
        tuple(files), counts, dict(zip(panel.symbols, hours, strict=True)), compare_files(loaded)
    )


def _basis(
    loaded: Sequence[LoadedBars],
    symbols: Sequence[str],
    grid: Ints,
    interval: Interval,
    combined: CombinedBars,
) -> Floats | None:
    """Context that knows the basis where both prices of a symbol exist and neither is suspect;
    None where there are none."""
    closes = {}
    for kind in ("perp", "spot"):
        of_kind = [file for file in loaded if file.source.kind == kind]
        if not of_kind:
            return None
        sourced, _ = merge_sources(of_kind, symbols, grid, interval, "at_close")
        closes[kind] = sourced.bars.values[:, :, CLOSE]
    basis = np.log(closes["perp"] / closes["spot"])
    if combined.waiting is not None:
        basis[combined.waiting] = np.nan
    if np.isnan(basis).all():
        return None
    context = np.full((*basis.shape, EXOGENOUS_WIDTH), np.nan)
    context[:, :, BASIS] = basis
    return context


def _fine_marks(
    loaded: Sequence[LoadedBars],
    panel: BarPanel,
    mark: Floats,
    dropped: Bools,
    outlier_filter: OutlierFilter | None,
) -> tuple[Interval, Floats]:
    finest = min((file.bars.interval for file in loaded), key=lambda i: i.nanoseconds)
    per_bar = panel.interval.nanoseconds // finest.nanoseconds
    if per_bar == 1:
        return panel.interval, mark
    fine = np.full((len(panel) * per_bar, len(panel.symbols)), np.nan)
    closing = fine[per_bar - 1 :: per_bar]
    closing[:] = mark  # every path passes through the marks at the closes
    column = {symbol: i for i, symbol in enumerate(panel.symbols)}
    for kind in MARK_ORDER:
        for file in loaded:
            if file.source.kind != kind or file.bars.interval == panel.interval:
                continue
            own = load_bars(file.source, file.symbol, file.bars.interval)
            # A fine bar ends where a step of the finest grid ends.
            ends = (own.opens + own.interval.nanoseconds - panel.opens[0]) // finest.nanoseconds - 1
            inside = (ends >= 0) & (ends < len(fine))
            ends, closes = ends[inside], own.values[inside, CLOSE]
            fresh = np.isnan(fine[ends, column[file.symbol]])
            fine[ends[fresh], column[file.symbol]] = closes[fresh]
    fine[np.repeat(dropped, per_bar, axis=0)] = np.nan
    if outlier_filter is not None:
        fine[is_dropped(filter_closes(fine, outlier_filter, finest))] = np.nan
        closing[:] = mark  # filtered at their own interval
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
