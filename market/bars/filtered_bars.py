"""Bars of several files on one grid, by both clocks, past the outlier filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from market.bars.bar_sources import LoadedBars, MergedSources, Series, merge_sources
from market.bars.bar_versions import Clock
from market.bars.outlier_filter import (
    SUSPECT,
    FilteredBars,
    OutlierFilter,
    Quarantine,
    filter_history,
    is_dropped,
    is_rejected,
    new_state,
)
from market.bars.panel import CLOSE
from market.bars.quality import MAX_TIMES
from market.bars.recorded_rows import RecordedRows, RecordedUse
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import Interval, format_time

RECENT_ROWS = 200
"""So many of the newest rows are kept as they came: the endpoint knows them again."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Rows that changed after their close and before the next one.

    Attributes
    ----------
    opens:
        Of the rows, rising, int64, shape (n,).
    values:
        The whole rows as later ones build on them, shape (n, S, 5).
    """

    opens: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class HistoryEnd:
    """Where a history ends, for the endpoint to go on from.

    Attributes
    ----------
    outlier_filter:
        Parameters of the outlier filter; None where there is none.
    state:
        Of the filter before the last row, shape (S, 4).
    recent_bars:
        The newest `RECENT_ROWS` rows before the filter, corrections included, shape (R, S, 5).
    mark:
        Last mark of each symbol after the corrections of the last row, shape (S,).
    """

    outlier_filter: OutlierFilter | None
    state: Floats
    recent_bars: Floats
    mark: Floats


@dataclass(frozen=True, slots=True)
class FileFindings:
    """What became of the bars of one file: the fields of `FileQuality` of these names."""

    used: int
    suspect: int = 0
    rejected: int = 0
    limited: int = 0
    suspect_times: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CombinedBars:
    """Bars and marks of S symbols on a grid of T rows.

    Attributes
    ----------
    bars:
        As known at each row's close, shape (T, S, 5).
    corrections:
        What later rows see otherwise; None where nothing is.
    marks:
        The newest version of each mark.
    mark_dropped:
        Where a mark is suspect or rejected, shape (T, S).
    known_mark:
        Last mark known at each row's close, however old, shape (T, S); None where `marks` say the
        same.
    waiting:
        Where the newest bar or mark is suspect, shape (T, S); None without a filter.
    quarantine:
        The bars that the filter changed; None without a filter.
    findings:
        One for each file loaded.
    recorded:
        What became of recorded bars; None where there are none.
    """

    bars: Floats
    corrections: Corrections | None
    marks: Series
    mark_dropped: Bools
    known_mark: Floats | None
    waiting: Bools | None
    quarantine: Quarantine | None
    end: HistoryEnd
    findings: tuple[FileFindings, ...]
    recorded: RecordedUse | None = None


def combine_bars(
    loaded: Sequence[LoadedBars],
    symbols: Sequence[str],
    grid: Ints,
    interval: Interval,
    outlier_filter: OutlierFilter | None,
    recorded: RecordedRows | None = None,
) -> CombinedBars:
    """Merge files on one grid and filter them; without a filter every bar is good.

    Recorded rows lie on the grid. Their bars go beside those of the files by every clock, as bar
    and as mark: at the endpoint a posted bar is both.
    """

    def by(clock: Clock) -> tuple[MergedSources, list[int]]:
        return merge_sources(loaded, symbols, grid, interval, clock)

    newest, used = by("newest")
    marks = newest.marks()
    early = settled = newest
    known = later_known = marks
    versioned = any(file.bars.versioned for file in loaded)
    if versioned:
        early, settled = by("at_close")[0], by("settled")[0]
        known, later_known = early.marks(), settled.marks()
    bars, later_bars = early.bars, settled.bars
    use = None
    if recorded is not None:
        # By identity: some of them are one and the same.
        parts = {id(series): series for series in (later_bars, bars, marks, known, later_known)}
        use, *_ = [recorded.merge(series.values, grid) for series in parts.values()]
    findings = [FileFindings(count) for count in used]
    dropped = np.zeros(marks.source.shape, dtype=np.bool_)
    recent_bars = later_bars.values[-RECENT_ROWS:].copy()
    waiting, quarantine, state = None, None, new_state(len(symbols))
    if outlier_filter is not None:

        def with_recorded(references: Floats | None) -> Floats | None:
            return references if recorded is None else recorded.with_references(references, grid)

        def filtered(
            series: Series, of: MergedSources, later: Series | None = None
        ) -> FilteredBars:
            after = None
            if versioned and later is not None:
                after = (later.values, with_recorded(settled.references(later, loaded)))
            references = with_recorded(of.references(series, loaded))
            return filter_history(
                series.values, outlier_filter, interval, references, after, in_place=True
            )

        # One kind of price is its own mark, and what never changed is filtered once.
        of_bars = filtered(bars, early, later_bars)
        of_marks = of_bars if marks is bars else filtered(marks, newest)
        of_known = of_bars if known is bars else of_marks
        if versioned and known is not bars:
            of_known = filtered(known, early, later_known)
        waiting = of_bars.waiting | of_known.waiting
        dropped = is_dropped(of_marks.verdicts)
        state, quarantine = of_bars.state, of_bars.quarantine
        results = [(bars, of_bars), (marks, of_marks)][: 1 if marks is bars else 2]
        findings = _findings(used, results, grid)
    return CombinedBars(
        bars=bars.values,
        corrections=_corrections(bars.values, later_bars.values, grid) if versioned else None,
        marks=marks,
        mark_dropped=dropped,
        known_mark=_known(known, later_known) if versioned else None,
        waiting=waiting,
        quarantine=quarantine,
        end=HistoryEnd(
            outlier_filter, state, recent_bars, last_values(later_known.values[:, :, CLOSE])
        ),
        findings=tuple(findings),
        recorded=use,
    )


def _corrections(bars: Floats, settled: Floats, grid: Ints) -> Corrections | None:
    same = (bars == settled) | (np.isnan(bars) & np.isnan(settled))
    rows = np.flatnonzero(~same.all(axis=(1, 2)))
    return Corrections(grid[rows], settled[rows]) if len(rows) else None


def _known(known: Series, settled: Series) -> Floats:
    """Last mark known at each close: that of the row, else the settled one of a row before."""
    now, before = known.values[:, :, CLOSE], settled.values[:, :, CLOSE]
    rows = np.where(np.isnan(before), -1, np.arange(len(before))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    carried = np.where(last >= 0, np.take_along_axis(before, np.maximum(last, 0), axis=0), np.nan)
    held = np.full_like(carried, np.nan)
    held[1:] = carried[:-1]
    return np.where(np.isnan(now), held, now)


def _findings(
    used: Sequence[int], parts: Sequence[tuple[Series, FilteredBars]], grid: Ints
) -> list[FileFindings]:
    """What became of the bars of each file; a bar that is both bar and mark counts once."""
    names = ("suspect", "rejected", "limited")
    changed: dict[str, set[tuple[int, int]]] = {name: set() for name in names}
    for series, filtered in parts:
        found = filtered.quarantine
        files = series.source[found.rows, found.columns].tolist()
        where = zip(files, found.rows.tolist(), strict=True)
        rejected = is_rejected(found.verdicts)
        for place, verdict, hard in zip(where, found.verdicts, rejected, strict=True):
            name = "suspect" if verdict == SUSPECT else "rejected" if hard else "limited"
            changed[name].add(place)
    changed["rejected"] -= changed["suspect"]
    changed["limited"] -= changed["suspect"] | changed["rejected"]
    findings = []
    for file, count in enumerate(used):
        rows = sorted(row for of, row in changed["suspect"] if of == file)
        rejects, limits = (sum(of == file for of, _ in changed[name]) for name in names[1:])
        times = tuple(format_time(int(grid[row])) for row in rows[:MAX_TIMES])
        findings.append(FileFindings(count, len(rows), rejects, limits, times))
    return findings


def last_values(prices: Floats) -> Floats:
    """The newest value of each column that is not NaN, however old, shape (S,)."""
    newest = len(prices) - 1 - np.argmax(~np.isnan(prices[::-1]), axis=0)
    last: Floats = prices[newest, np.arange(prices.shape[1])]
    return last
