"""What happens to each account after each decision time: the first breach of its margin.

Labels rest on the headroom that the margin engine gives on the marks that followed: equity less
the level of the event (`training.labels.events`), the maintenance margin of a call. A breach is
equity under that level at a step of the path in ``(t, t + h]``. Three kinds of path
(``extremes``): ``close`` sees the marks at bar closes, ``finest`` those at the closes of the finest
bars, ``bound`` the worst price of each leg within each bar, all at once - an upper bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.engines.equity_paths import BookPaths, Extremes, RowSpans
from training.labels.book_intervals import BookIntervals
from training.labels.in_order import in_order
from training.labels.market_path import LabelMarket
from training.labels.sampling import Columns, Draws, Exposures, Reservoir

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Holding = Literal["static", "as_traded"]

NEVER = 2**63 - 1
"""Breach step of an account that does not breach within the longest horizon."""

_CHUNK = 1_000_000
"""Account-times whose paths are in memory at once, but for one account that has more."""

_COUNTS = ("warm_up", "already_called", "horizon_past_end", "closed", "not_valued")


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Which account-times get a label, and how.

    Attributes
    ----------
    first_row, last_row:
        Decision rows of the span, ``first_row <= row < last_row``.
    longest_step:
        Longest horizon in rows.
    extremes:
        See the top of this file.
    level:
        Of the event, as a share of the maintenance margin.
    book:
        ``static``: each book is followed as it stands; ``as_traded``: through what replaces it.
    draws, seed:
        Which account-times are kept, by a seeded hash of account and time, never by outcome; see
        `training.labels.sampling`. None: all.
    """

    first_row: int
    last_row: int
    longest_step: int
    extremes: Extremes = "close"
    level: float = 1.0
    book: Holding = "static"
    draws: Draws | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Chosen account-times and what became of them.

    Attributes
    ----------
    interval, row:
        Which book, at which decision row; shape (N,).
    headroom:
        Equity less the level of the event at the decision time, settlement currency.
    maintenance_margin:
        At the decision time, settlement currency.
    breach_step:
        Decision rows until the first breach, 1 for one within the next bar; `NEVER` if none.
    weight, uniform:
        See `training.labels.dataset.Dataset`, shape (N,).
    dropped:
        Account-times left out, by reason; ``not_valued`` only where the engine could not value
        some account-times although all marks were known.
    considered:
        Account-times in the span.
    calls, at_risk:
        Breaches within the bar that ends at each row, and accounts that had headroom before it;
        over all accounts, shape (T,).
    problems:
        Why books could not be valued: account-times by reason.
    """

    interval: Ints
    row: Ints
    headroom: Floats
    maintenance_margin: Floats
    breach_step: Ints
    weight: Floats
    uniform: Bools
    dropped: dict[str, int]
    considered: int
    calls: Floats
    at_risk: Floats
    problems: Counter[str]


class _Intervals(NamedTuple):
    """`path_end` is the row at which the book stops being followed, `until` that at which the next
    one of its group begins."""

    key: Any
    first_row: Any
    last_row: Any
    path_end: Any
    until: Any
    symbol_start: Any
    symbol: Any


class _Paths(NamedTuple):
    start: Any
    headroom: Any
    maintenance_margin: Any
    lowest_headroom: Any


class _Market(NamedTuple):
    times: Any
    usable: Any
    marked: Any


class _Choice(NamedTuple):
    first_row: int
    last_row: int
    longest_step: int


class _Tally(NamedTuple):
    """Filled in place: considered and `_COUNTS`, and the two series of `Outcomes`."""

    counts: Any
    calls: Any
    at_risk: Any

    @classmethod
    def zero(cls, rows: int) -> _Tally:
        """Nothing yet, of so many market rows."""
        return cls(np.zeros(1 + len(_COUNTS), np.int64), np.zeros(rows), np.zeros(rows))


def breach_labels(
    intervals: BookIntervals, paths: BookPaths, market: LabelMarket, rules: LabelRules
) -> Outcomes:
    """Follow every book through the marks, in chunks of accounts that bound the memory.

    Parameters
    ----------
    intervals:
        Books and when they were held.
    paths:
        Their headroom, by the margin engine.
    market:
        Marks, and which symbols can be decided on at each row.
    rules:
        What to label.
    """
    history, rows = market.history, len(market.history.mark)
    as_traded = rules.book == "as_traded"
    groups = _account_groups(intervals) if as_traded else np.arange(len(intervals) + 1)
    until = np.append(intervals.first_row[1:], 0)
    newest = groups[1:] - 1
    until[newest] = np.minimum(rows, intervals.last_row[newest] + rules.longest_step)
    # A static book is followed to the end of the longest horizon; a traded one until it is
    # replaced or the account is closed.
    path_end = intervals.last_row if as_traded else until
    keys = intervals.account_key ^ np.uint64((rules.seed * 0x9E3779B97F4A7C15) % 2**64)
    reservoir = Reservoir(
        rules.draws or Draws.uniform(rows, 1.0),
        Exposures.of(intervals, history.mark, market.features),
    )
    columns = _Intervals(
        keys[intervals.account],
        intervals.first_row,
        intervals.last_row,
        path_end,
        until,
        intervals.symbol_start,
        intervals.symbol,
    )
    grid = _Market(history.bars.closes, market.usable(), ~np.isnan(history.mark))
    choice = _Choice(rules.first_row, rules.last_row, rules.longest_step)
    total = _Tally.zero(rows)
    spans = RowSpans(np.arange(len(intervals)), intervals.first_row, path_end, rows)
    problems: Counter[str] = Counter()

    def followed() -> Iterator[tuple[Ints, _Paths, Floats]]:
        for part in _chunks(groups, spans.lengths):
            books = slice(part[0], part[-1])
            found = paths.equity_paths(
                RowSpans(spans.index[books], spans.first_row[books], spans.last_row[books], rows),
                rules.extremes,
                rules.level,
            )
            problems.update(found.problems)
            figures = _Paths(
                found.start, found.headroom, found.maintenance_margin, found.lowest_headroom
            )
            yield part, figures, reservoir.thresholds()

    def label(one: tuple[Ints, _Paths, Floats]) -> tuple[_Tally, Columns]:
        part, figures, thresholds = one
        own = _Tally.zero(rows)
        return own, _label(part, columns, figures, grid, choice, thresholds, own)

    for own, (number, *found_columns) in in_order(label, followed()):
        for all_parts, part in zip(total, own, strict=True):
            all_parts += part
        reservoir.offer(number, tuple(found_columns))
    (interval, row, headroom, margin, step), weight, uniform = reservoir.close()
    counts = dict(zip(_COUNTS, total.counts[1:].tolist(), strict=True))
    if not counts["not_valued"]:
        del counts["not_valued"]
    considered = int(total.counts[0])
    return Outcomes(
        interval,
        row,
        headroom,
        margin,
        step,
        weight,
        uniform,
        counts,
        considered,
        total.calls,
        total.at_risk,
        problems,
    )


def _account_groups(intervals: BookIntervals) -> Ints:
    """Offsets of runs of intervals that belong to one account."""
    starts = np.flatnonzero(np.r_[True, np.diff(intervals.account) != 0])
    return np.append(starts, len(intervals)).astype(np.int64)


def _chunks(groups: Ints, lengths: Ints) -> Iterator[Ints]:
    """Runs of groups with about `_CHUNK` account-times each, as their offsets."""
    times = np.concatenate([[0], np.cumsum(lengths)])[groups]
    begin = 0
    while True:
        end = int(np.searchsorted(times, times[begin] + _CHUNK, side="right")) - 1
        end = min(max(end, begin + 1), len(groups) - 1)
        yield groups[begin : end + 1]
        if end == len(groups) - 1:
            return
        begin = end


@njit(cache=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """Finaliser of splitmix64: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, error_model="numpy", nogil=True)
def _label(groups, intervals, paths, market, choice, threshold, tally):  # type: ignore[no-untyped-def]
    """Account-times of some groups whose number is below their row's threshold: that number,
    interval, row, headroom, margin and breach step."""
    rows, longest = len(market.times), choice.longest_step
    first, last = intervals.first_row, intervals.last_row
    leg_start, leg_symbol = intervals.symbol_start, intervals.symbol
    counts = tally.counts
    size = 1024
    out_number = np.empty(size)
    out_interval = np.empty(size, np.int64)
    out_row = np.empty(size, np.int64)
    out_headroom = np.empty(size)
    out_margin = np.empty(size)
    out_step = np.empty(size, np.int64)
    used = 0
    headroom, margin = np.empty(rows), np.empty(rows)
    worst = np.empty(rows)  # lowest headroom within the bar that ends at the row
    holder = np.empty(rows, np.int64)  # interval in force at the row, −1 for none or an empty one
    next_missing, next_breach, next_empty = (
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
    )
    for g in range(len(groups) - 1):
        begin, end = first[groups[g]], 0
        for n in range(groups[g], groups[g + 1]):
            until, path_end = intervals.until[n], intervals.path_end[n]
            at = paths.start[n - groups[0]] - first[n]
            for k in range(first[n], path_end):
                headroom[k] = paths.headroom[at + k]
                margin[k] = paths.maintenance_margin[at + k]
                if k == first[n] and n > groups[g]:
                    worst[k] = min(worst[k], headroom[k])  # a new book can begin in breach
                holder[k] = n if leg_start[n + 1] > leg_start[n] else -1
            for k in range(first[n] + 1, min(path_end + 1, rows)):
                worst[k] = paths.lowest_headroom[at + k]
            for k in range(path_end, until):  # nothing is held
                headroom[k], margin[k], holder[k] = np.nan, np.nan, -1
            for k in range(path_end + 1, min(until + 1, rows)):
                worst[k] = np.inf
            end = until
        _find_next(worst, holder, begin, end, (next_missing, next_breach, next_empty))
        held_to = last[groups[g + 1] - 1]
        n = groups[g]
        for k in range(begin, held_to):
            while k >= last[n]:
                n += 1
            if k + 1 < min(end, held_to) and headroom[k] > 0.0:
                tally.at_risk[k + 1] += 1.0
                if worst[k + 1] < 0.0:
                    tally.calls[k + 1] += 1.0
            if k < choice.first_row or k >= choice.last_row or holder[k] < 0:
                continue
            counts[0] += 1
            ready = True
            for leg in range(leg_start[n], leg_start[n + 1]):
                ready = ready and market.usable[k, leg_symbol[leg]]
            if not ready:
                counts[1] += 1
                continue
            if np.isnan(headroom[k]):
                counts[5 if _all_marked(n, k, intervals, market.marked) else 1] += 1
                continue
            if headroom[k] <= 0.0:
                counts[2] += 1
                continue
            if k + longest >= end:
                counts[3] += 1
                continue
            missing, breach, empty = next_missing[k], next_breach[k], next_empty[k]
            if missing <= k + longest:
                known = True
                for n_held in (holder[missing - 1], holder[missing]):
                    if n_held >= 0 and not _all_marked(n_held, missing, intervals, market.marked):
                        known = False
                counts[5 if known else 3] += 1
                continue
            if empty <= k + longest and empty < breach:
                counts[4] += 1
                continue
            step = breach - k if breach <= k + longest else NEVER
            key = _mix(
                intervals.key[n] + np.uint64(market.times[k]) * np.uint64(0x9E3779B97F4A7C15)
            )
            number = float(key >> np.uint64(11)) * 2.0**-53
            if not number < threshold[k]:
                continue
            if used == size:
                size *= 2
                out_number = _grow(out_number, size)
                out_interval = _grow(out_interval, size)
                out_row = _grow(out_row, size)
                out_headroom = _grow(out_headroom, size)
                out_margin = _grow(out_margin, size)
                out_step = _grow(out_step, size)
            out_interval[used], out_row[used], out_step[used] = n, k, step
            out_number[used] = number
            out_headroom[used], out_margin[used] = headroom[k], margin[k]
            used += 1
    return (
        out_number[:used],
        out_interval[:used],
        out_row[:used],
        out_headroom[:used],
        out_margin[:used],
        out_step[:used],
    )


@njit(cache=True)
def _find_next(worst, holder, begin, end, out):  # type: ignore[no-untyped-def]
    """First row after each row of ``[begin, end)`` without a value, in breach, and without a book;
    `NEVER` where there is none before `end`."""
    out_missing, out_breach, out_empty = out
    missing = breach = empty = NEVER
    for k in range(end - 1, begin - 1, -1):
        out_missing[k], out_breach[k], out_empty[k] = missing, breach, empty
        if np.isnan(worst[k]):
            missing = k
        elif worst[k] < 0.0:
            breach = k
        if holder[k] < 0:
            empty = k


@njit(cache=True)
def _all_marked(n, k, intervals, marked):  # type: ignore[no-untyped-def]
    """Whether every symbol of a book has a mark at a row."""
    for leg in range(intervals.symbol_start[n], intervals.symbol_start[n + 1]):
        if not marked[k, intervals.symbol[leg]]:
            return False
    return True


@njit(cache=True)
def _grow(array, size):  # type: ignore[no-untyped-def]
    bigger = np.empty(size, array.dtype)
    bigger[: len(array)] = array
    return bigger
