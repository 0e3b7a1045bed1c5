"""Bars of several files on one grid: which file fills what, which kind of price marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from market.bars.bar_cleaning import SymbolBars
from market.bars.bar_versions import Clock
from market.bars.panel import CLOSE
from market.bars.quality import Agreement
from market.core.arrays import Floats, Ints
from market.core.clock import DAY, Interval
from market.core.errors import DataError
from market.sources.base import BarKind, BarSource

Sources = npt.NDArray[np.int16]

MARK_ORDER: tuple[BarKind, ...] = ("mark", "perp", "spot")
"""Which kind of price marks an account, first choice first."""

SAME_PRICES = 0.5
"""Two files tell of the same prices where at least this share of their closes is equal: files of
one kind agree on nearly all of them, spot and perpetual by chance on a few per cent."""

NO_SOURCE = -1


@dataclass(frozen=True, slots=True)
class LoadedBars:
    """Bars of one symbol from one source."""

    source: BarSource
    symbol: str
    bars: SymbolBars


@dataclass(frozen=True, slots=True)
class Series:
    """One series of bars a symbol, and where each came from.

    Attributes
    ----------
    values:
        Shape (T, S, 5); NaN where there is no bar.
    source:
        Index of the file among those loaded, int16, shape (T, S); `NO_SOURCE` for none.
    """

    values: Floats
    source: Sources


@dataclass(frozen=True, slots=True)
class MergedSources:
    """Files put together by one clock.

    Attributes
    ----------
    bars:
        What was traded, in the order of the folders: a later one fills what earlier ones lack.
    by_kind:
        The same for each kind on its own; the series of `bars` itself where there is one kind.
    """

    bars: Series
    by_kind: dict[BarKind, Series]

    def marks(self) -> Series:
        """By `MARK_ORDER`, bar by bar; the series of `bars` itself where there is one kind."""
        if len(self.by_kind) == 1:
            return self.bars
        chosen = _nothing(*self.bars.source.shape)
        for kind in MARK_ORDER:
            if kind in self.by_kind:
                other = self.by_kind[kind]
                take = (chosen.source == NO_SOURCE) & (other.source != NO_SOURCE)
                chosen.values[take] = other.values[take]
                chosen.source[take] = other.source[take]
        return chosen

    def references(self, series: Series, loaded: Sequence[LoadedBars]) -> Floats | None:
        """Closes of the other kinds at each bar of a series, shape (T, S, K); None if one kind."""
        if len(self.by_kind) == 1:
            return None
        kinds = np.array([*(MARK_ORDER.index(file.source.kind) for file in loaded), -1])
        own = kinds[series.source]  # NO_SOURCE finds the last one
        closes = np.empty((*own.shape, len(self.by_kind)))
        for k, (kind, other) in enumerate(self.by_kind.items()):
            closes[:, :, k] = np.where(
                own == MARK_ORDER.index(kind), np.nan, other.values[:, :, CLOSE]
            )
        return closes


def common_grid(loaded: Sequence[LoadedBars], interval: Interval) -> Ints:
    """Ints from the first bar of any file to the last.

    Raises
    ------
    DataError
        No file of traded prices holds a bar.
    """
    if all(file.source.kind == "mark" for file in loaded):
        raise DataError("every spot and perp file is empty once faulty bars are dropped")
    # Marks may begin or end elsewhere; the grid covers everything that was read.
    clocks: tuple[Clock, ...] = ("newest", "settled", "at_close")
    opens = [file.bars.as_known(clock)[0] for file in loaded for clock in clocks]
    filled = [part for part in opens if len(part)]
    first, last = min(part[0] for part in filled), max(part[-1] for part in filled)
    return np.arange(first, last + interval.nanoseconds, interval.nanoseconds, dtype=np.int64)


def merge_sources(
    loaded: Sequence[LoadedBars],
    symbols: Sequence[str],
    grid: Ints,
    interval: Interval,
    clock: Clock,
) -> tuple[MergedSources, list[int]]:
    """Files on one grid by one clock, and how many bars of each file were used."""
    column = {symbol: i for i, symbol in enumerate(symbols)}
    kinds = list(dict.fromkeys(file.source.kind for file in loaded))
    by_kind = {kind: _nothing(len(grid), len(symbols)) for kind in kinds}
    bars = by_kind[kinds[0]] if len(kinds) == 1 else _nothing(len(grid), len(symbols))
    used = []
    for i, file in enumerate(loaded):
        opens, values = file.bars.as_known(clock)
        rows, s = (opens - grid[0]) // interval.nanoseconds, column[file.symbol]
        fresh = _fill_in(by_kind[file.source.kind], rows, s, values, i)
        if file.source.kind != "mark" and len(kinds) > 1:
            fresh = _fill_in(bars, rows, s, values, i)
        used.append(fresh)
    return MergedSources(bars, by_kind), used


def compare_files(loaded: Sequence[LoadedBars]) -> tuple[Agreement, ...]:
    """Equal closes of each two files of one symbol that overlap by a day of bars or more."""
    found = []
    for first, second in combinations(loaded, 2):
        if first.symbol != second.symbol:
            continue
        opens, a, b = np.intersect1d(
            first.bars.opens, second.bars.opens, assume_unique=True, return_indices=True
        )
        if len(opens) < 2 or opens[-1] - opens[0] < DAY:
            continue
        equal = float(np.mean(first.bars.values[a, CLOSE] == second.bars.values[b, CLOSE]))
        verdict = ""
        if (first.source.kind == second.source.kind) != (equal >= SAME_PRICES):
            verdict = "differ" if equal < SAME_PRICES else "mix-up"
        ends = [(file.source.name, file.source.kind) for file in (first, second)]
        found.append(Agreement(first.symbol, ends[0], ends[1], len(opens), equal, verdict))
    return tuple(found)


def _nothing(rows: int, symbols: int) -> Series:
    return Series(
        np.full((rows, symbols, 5), np.nan), np.full((rows, symbols), NO_SOURCE, dtype=np.int16)
    )


def _fill_in(series: Series, rows: Ints, column: int, values: Floats, source: int) -> int:
    fresh = series.source[rows, column] == NO_SOURCE
    series.values[rows[fresh], column] = values[fresh]
    series.source[rows[fresh], column] = source
    return int(fresh.sum())
