"""The price guard: a bar beyond what is plausible waits until something confirms it.

A bar is judged when it closes, by nothing that came later:

* Its distance is ``|log(close / last good close)|`` and its limit ``band * sqrt(max(1, hours))``,
  over the hours since that close. Within the limit it is good.
* Beyond it a second source makes it good: another kind of price of the symbol whose bar closed at
  the same time within ``agreement``.
* So does the bar before it, if that one lay beyond its own limit on the same side: a bad tick
  reverts, a crash does not. A flat repeat of the waiting close is an echo and confirms nothing.
* Otherwise it is ``suspect`` and treated as missing. The bar that confirms it carries the whole
  move, as a bar after a gap does.

A first bar, or one after a gap of over `MAX_GAP_HOURS`, has nothing to be compared with and is
good. The open and the extremes of a good bar are limited to ``wick_band`` (scaled alike) beyond
the span of its close and the last good one: a wick cannot be confirmed by what follows.

References: Brownlees and Gallo (2006), "Financial econometric analysis at ultra-high frequency:
data handling concerns" (rejection by distance from a local level).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from market.clock import Interval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Verdicts = npt.NDArray[np.int8]

MAX_GAP_HOURS = 24
"""Beyond a gap of this length the last price of a symbol says nothing about the next one."""

GOOD, LIMITED, SUSPECT, WAITING = range(4)
"""Verdicts: as it is (or missing), extremes limited, quarantined, missing while one waits."""

LAST, MISSED, SIDE, TOLD = range(4)
"""Columns of the state: last good close, bars since it, side (+1, -1; 0: none) and close of the
suspect bar that waits."""
STATE_SIZE = 4


@dataclass(frozen=True, slots=True)
class PriceGuard:
    """Parameters of the guard.

    Attributes
    ----------
    band:
        Largest plausible move of a close against the last good one, log return, within an hour.
    wick_band:
        Largest plausible reach of an extreme beyond the closes, log.
    agreement:
        Distance within which a second source confirms, log.
    """

    band: float = 0.25
    wick_band: float = 0.5
    agreement: float = 0.1


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What the guard changed.

    Attributes
    ----------
    rows, columns:
        Where, int64, shape (n,).
    told:
        The bars as they were told, shape (n, 5).
    suspect:
        True where the bar is missing now, False where only its extremes were limited; shape (n,).
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    told: Floats
    suspect: Bools

    @classmethod
    def empty(cls) -> Quarantine:
        """Nothing was changed."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, none, np.empty((0, 5)), np.empty(0, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class Judged:
    """A history that was judged.

    Attributes
    ----------
    bars:
        As they count, shape (T, S, 5): the array given where nothing was changed.
    verdicts:
        Shape (T, S).
    quarantine:
        What was changed.
    state:
        Of the guard before the last row, shape (S, 4).
    """

    bars: Floats
    verdicts: Verdicts
    quarantine: Quarantine
    state: Floats

    @property
    def waiting(self) -> Bools:
        """Where the newest bar told of a symbol is suspect, shape (T, S)."""
        return self.verdicts >= SUSPECT


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (S, 4)."""
    state = np.zeros((symbols, STATE_SIZE))
    state[:, [LAST, TOLD]] = np.nan
    return state


def judge(
    bars: Floats,
    state: Floats,
    guard: PriceGuard,
    interval: Interval,
    witnesses: Floats | None = None,
) -> tuple[Floats, Verdicts]:
    """Judge the bars of one step; moves `state`.

    Parameters
    ----------
    bars:
        As told, shape (S, 5); NaN where there is none.
    state:
        Of the guard, shape (S, 4).
    guard, interval:
        Limits, and the length of a step.
    witnesses:
        Closes of second sources at the same time, shape (S, K); NaN where there is none.

    Returns
    -------
    The bars as they count, shape (S, 5), and the verdicts, shape (S,).
    """
    counted = bars[None].copy()
    seen = np.empty((1, len(bars), 0)) if witnesses is None else witnesses[None]
    verdicts = np.zeros((1, len(bars)), dtype=np.int8)
    limits = _parameters(guard, interval)
    _judge_rows(counted, counted, seen, seen, state, *limits, False, True, verdicts)
    return counted[0], verdicts[0]


def judge_history(
    bars: Floats,
    guard: PriceGuard,
    interval: Interval,
    witnesses: Floats | None = None,
    settled: tuple[Floats, Floats | None] | None = None,
    *,
    in_place: bool = False,
) -> Judged:
    """Judge bars row after row.

    Parameters
    ----------
    bars:
        As told by each row's close, shape (T, S, 5).
    guard, interval:
        Limits, and the length of a row.
    witnesses:
        Closes of second sources, shape (T, S, K).
    settled:
        The same bars with the corrections that came before the next row, and their witnesses:
        later rows are judged after these. Changed in place. None where nothing was corrected.
    in_place:
        Change `bars` themselves instead of a copy of them.
    """
    after = (bars, witnesses) if settled is None else settled
    unseen = np.empty((*bars.shape[:2], 0))
    arrays = [bars, after[0], *(unseen if seen is None else seen for seen in (witnesses, after[1]))]
    verdicts = np.zeros(bars.shape[:2], dtype=np.int8)
    limits, corrected = _parameters(guard, interval), settled is not None

    def run(write: bool) -> Floats:
        state = new_state(bars.shape[1])
        before = state
        for part in (slice(0, -1), slice(-1, None)):
            before = state.copy()
            told, then, seen, seen_then = (array[part] for array in arrays)
            verdict = verdicts[part]
            _judge_rows(told, then, seen, seen_then, state, *limits, corrected, write, verdict)
        return before

    # Looked through first: most histories hold nothing to change, and what was told is kept.
    before = run(write=False)
    changed = (verdicts == LIMITED) | (verdicts == SUSPECT)
    if not changed.any() and settled is None:
        return Judged(bars, verdicts, Quarantine.empty(), before)
    at, column = (index.astype(np.int64) for index in np.nonzero(changed))
    quarantine = Quarantine(at, column, bars[at, column], verdicts[at, column] == SUSPECT)
    if not in_place:
        arrays[0] = bars.copy()
        arrays[1] = arrays[0] if settled is None else arrays[1]
    run(write=True)
    return Judged(arrays[0], verdicts, quarantine, before)


def judge_closes(closes: Floats, guard: PriceGuard, interval: Interval) -> Verdicts:
    """Verdicts on closes alone, shape (T, S); `closes` are not changed."""
    rows, symbols = closes.shape
    # One close in the place of all five columns, without a copy of it.
    bars = np.lib.stride_tricks.as_strided(closes, (rows, symbols, 5), (*closes.strides, 0))
    unseen = np.empty((rows, symbols, 0))
    verdicts = np.zeros((rows, symbols), dtype=np.int8)
    state = new_state(symbols)
    limits = _parameters(guard, interval)
    _judge_rows(bars, bars, unseen, unseen, state, *limits, False, False, verdicts)
    return verdicts


def _parameters(guard: PriceGuard, interval: Interval) -> tuple[float, float, float, float, int]:
    per_hour = interval.per_hour
    return guard.band, guard.wick_band, guard.agreement, float(per_hour), MAX_GAP_HOURS * per_hour


@njit(cache=True, error_model="numpy")
def _judge_bar(  # type: ignore[no-untyped-def]
    bar, witnesses, state, band, wick_band, agreement, per_hour, max_gap, write
):
    close = bar[3]
    if math.isnan(close):
        state[1] += 1.0
        return 3 if state[2] != 0.0 else 0
    fresh = math.isnan(state[0]) or state[1] > max_gap
    move = 0.0
    scale = 1.0
    if not fresh:
        move = math.log(close / state[0])
        scale = math.sqrt(max(1.0, (state[1] + 1.0) / per_hour))
    good = abs(move) <= band * scale
    if not good:
        for k in range(witnesses.shape[0]):
            if abs(math.log(close / witnesses[k])) <= agreement:
                good = True
    if not good:
        echo = bar[1] == state[3] and bar[2] == state[3]
        good = state[2] * move > 0.0 and not echo
    if not good:
        state[1] += 1.0
        state[2] = 1.0 if move > 0.0 else -1.0
        state[3] = close
        if write:
            bar[:] = np.nan
        return 2
    upper = lower = close
    if not fresh:
        upper = max(close, state[0])
        lower = min(close, state[0])
    reach = math.exp(wick_band * scale)
    upper *= reach
    lower /= reach
    limited = 0
    for i in range(3):
        if bar[i] > upper or bar[i] < lower:
            limited = 1
            if write:
                bar[i] = min(max(bar[i], lower), upper)
    state[0] = close
    state[1] = 0.0
    state[2] = 0.0
    state[3] = np.nan
    return limited


@njit(cache=True, error_model="numpy")
def _judge_rows(  # type: ignore[no-untyped-def]
    bars,
    settled,
    witnesses,
    settled_witnesses,
    state,
    band,
    wick_band,
    agreement,
    per_hour,
    max_gap,
    corrected,
    write,
    verdicts,
):
    before = np.empty(state.shape[1])
    for t in range(bars.shape[0]):
        for s in range(bars.shape[1]):
            before[:] = state[s]
            verdicts[t, s] = _judge_bar(
                bars[t, s],
                witnesses[t, s],
                state[s],
                band,
                wick_band,
                agreement,
                per_hour,
                max_gap,
                write,
            )
            if corrected:
                state[s] = before
                _judge_bar(
                    settled[t, s],
                    settled_witnesses[t, s],
                    state[s],
                    band,
                    wick_band,
                    agreement,
                    per_hour,
                    max_gap,
                    write,
                )
