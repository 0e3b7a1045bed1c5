"""Outlier filter for bars: a close that is not plausible waits until something confirms it.

A bar is filtered when it closes, by nothing that came later. Its distance is the absolute value of
``log(close / last good close)``.

* Farther than ``log(hard_band)`` from the last good close, and from the close that waits on the
  same side, it is rejected: missing, and it confirms nothing.
* Within ``band * sqrt(max(1, hours))``, over the hours since the last good close, it is good.
* Beyond that it is good if the sources agree: the majority of the close and its reference prices
  (other kinds of price, quoted marks) lies within ``agreement`` of it, and so does their median.
* So it is if the bar before it lay beyond its own limit on the same side: a bad tick reverts, a
  crash does not. A flat repeat of the waiting close is an echo and confirms nothing.
* Otherwise it is suspect and treated as missing. The bar that confirms it carries the whole
  move, as a bar after a gap does.

A first bar, or one after a gap of over `MAX_GAP_HOURS`, has nothing to be compared with and is
good: so no feed is shut out for longer, rejected bars included. The open and the extremes of a
good bar are limited to ``wick_band`` (scaled alike) beyond the span of its close and the last good
one: a wick cannot be confirmed by what follows.

References: Brownlees and Gallo (2006), "Financial econometric analysis at ultra-high frequency:
data handling concerns" (rejection by distance from a local level).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from market.core.arrays import Bools, Floats, Ints
from market.core.clock import Interval

Verdicts = npt.NDArray[np.int8]

MAX_GAP_HOURS = 24
"""Beyond a gap of this length the last price of a symbol says nothing about the next one."""

DEFAULT_HARD_BAND = 5.0
DEFAULT_CASH_BAND = 0.05
DEFAULT_VOL_BAND = 0.69
"""Bands of a rule set that does not name them."""

GOOD, LIMITED, REJECTED, SUSPECT, WAITING, REJECTED_WAITING = range(6)
"""Verdicts: as it is (or missing), extremes limited, beyond the hard band, held until confirmed,
missing while a suspect bar waits, beyond the hard band while one waits."""

LAST, MISSED, SIDE, SUSPECT_CLOSE = range(4)
"""Columns of the state: last good close, bars since it, side (+1, -1; 0: none) and close of the
suspect bar that waits."""
STATE_SIZE = 4


@dataclass(frozen=True, slots=True)
class OutlierFilter:
    """Parameters of the filter, the table ``[price_guard]`` of a rule set.

    Attributes
    ----------
    band:
        Largest plausible move against the last good price, log return, within an hour.
    wick_band:
        Largest plausible reach of an extreme beyond the closes, log.
    agreement:
        Distance within which a second source confirms, log.
    hard_band:
        A price farther than this factor from the last good one, up or down, is rejected.
    cash_band:
        Largest plausible move of the quoted price of a cash asset, log return.
    vol_band:
        Largest plausible move of a quoted implied vol within an hour, log of the ratio.
    """

    band: float = 0.25
    wick_band: float = 0.5
    agreement: float = 0.1
    hard_band: float = DEFAULT_HARD_BAND
    cash_band: float = DEFAULT_CASH_BAND
    vol_band: float = DEFAULT_VOL_BAND


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What the filter changed.

    Attributes
    ----------
    rows, columns:
        Where, int64, shape (n,).
    values:
        The bars before the filter, shape (n, 5).
    verdicts:
        `SUSPECT`, `REJECTED` or `REJECTED_WAITING` where the bar is missing now, `LIMITED` where
        only its extremes were limited; int8, shape (n,).
    """

    rows: Ints
    columns: Ints
    values: Floats
    verdicts: Verdicts

    @classmethod
    def empty(cls) -> Quarantine:
        """Nothing was changed."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, none, np.empty((0, 5)), np.empty(0, dtype=np.int8))


@dataclass(frozen=True, slots=True)
class FilteredBars:
    """A history that passed the filter.

    Attributes
    ----------
    bars:
        As they count, shape (T, S, 5): the array given where nothing was changed.
    verdicts:
        Shape (T, S).
    quarantine:
        What was changed.
    state:
        Of the filter before the last row, shape (S, 4).
    """

    bars: Floats
    verdicts: Verdicts
    quarantine: Quarantine
    state: Floats

    @property
    def waiting(self) -> Bools:
        """Where a suspect bar of a symbol waits, shape (T, S)."""
        return self.verdicts >= SUSPECT


def is_rejected(verdicts: Verdicts) -> Bools:
    """Where a bar lies beyond the hard band, the shape of `verdicts`."""
    rejected: Bools = (verdicts == REJECTED) | (verdicts == REJECTED_WAITING)
    return rejected


def is_dropped(verdicts: Verdicts) -> Bools:
    """Where a bar counts as missing, suspect or rejected; the shape of `verdicts`."""
    dropped: Bools = is_rejected(verdicts) | (verdicts == SUSPECT)
    return dropped


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (S, 4)."""
    state = np.zeros((symbols, STATE_SIZE))
    state[:, [LAST, SUSPECT_CLOSE]] = np.nan
    return state


def filter_bars(
    bars: Floats,
    state: Floats,
    outlier_filter: OutlierFilter,
    interval: Interval,
    references: Floats | None = None,
) -> tuple[Floats, Verdicts]:
    """Filter the bars of one step; moves `state`.

    Parameters
    ----------
    bars:
        Shape (S, 5); NaN where there is none.
    state:
        Of the filter, shape (S, 4).
    outlier_filter, interval:
        Limits, and the length of a step.
    references:
        Prices of other sources at the same time, shape (S, K); NaN where there is none.

    Returns
    -------
    The bars as they count, shape (S, 5), and the verdicts, shape (S,).
    """
    counted = bars[None].copy()
    others = np.empty((1, len(bars), 0)) if references is None else references[None]
    verdicts = np.zeros((1, len(bars)), dtype=np.int8)
    _filter_rows(
        counted, None, (others, others), state, _limits(outlier_filter, interval), True, verdicts
    )
    return counted[0], verdicts[0]


def filter_history(
    bars: Floats,
    outlier_filter: OutlierFilter,
    interval: Interval,
    references: Floats | None = None,
    settled: tuple[Floats, Floats | None] | None = None,
    *,
    in_place: bool = False,
) -> FilteredBars:
    """Filter bars row after row.

    Parameters
    ----------
    bars:
        As known at each row's close, shape (T, S, 5).
    outlier_filter, interval:
        Limits, and the length of a row.
    references:
        Closes of other sources, shape (T, S, K).
    settled:
        The same bars with the corrections that came before the next row, and their references:
        later rows are filtered after these. Changed in place. None where nothing was corrected.
    in_place:
        Change `bars` themselves instead of a copy of them.
    """
    none = np.empty((*bars.shape[:2], 0))
    others = none if references is None else references
    later, later_others = (None, none) if settled is None else settled
    later_others = none if later_others is None else later_others
    verdicts = np.zeros(bars.shape[:2], dtype=np.int8)
    limits = _limits(outlier_filter, interval)

    def run(target: Floats, write: bool) -> Floats:
        state = new_state(bars.shape[1])
        before = state
        for part in (slice(0, -1), slice(-1, None)):
            before = state.copy()
            corrected = None if later is None else later[part]
            references_of_part = (others[part], later_others[part])
            _filter_rows(
                target[part], corrected, references_of_part, state, limits, write, verdicts[part]
            )
        return before

    # Looked through first: most histories hold nothing to change, and the bars before are kept.
    before = run(bars, write=False)
    changed = (verdicts == LIMITED) | is_dropped(verdicts)
    if not changed.any() and settled is None:
        return FilteredBars(bars, verdicts, Quarantine.empty(), before)
    at, column = (index.astype(np.int64) for index in np.nonzero(changed))
    quarantine = Quarantine(at, column, bars[at, column], verdicts[at, column])
    counted = bars if in_place else bars.copy()
    run(counted, write=True)
    return FilteredBars(counted, verdicts, quarantine, before)


def filter_closes(closes: Floats, outlier_filter: OutlierFilter, interval: Interval) -> Verdicts:
    """Verdicts on closes alone, shape (T, S); `closes` are not changed."""
    rows, symbols = closes.shape
    # One close in the place of all five columns, without a copy of it.
    bars = np.lib.stride_tricks.as_strided(closes, (rows, symbols, 5), (*closes.strides, 0))
    none = np.empty((rows, symbols, 0))
    verdicts = np.zeros((rows, symbols), dtype=np.int8)
    limits = _limits(outlier_filter, interval)
    _filter_rows(bars, None, (none, none), new_state(symbols), limits, False, verdicts)
    return verdicts


class _Limits(NamedTuple):
    """Limits of the kernel: logs, and a gap in bars."""

    band: float
    wick_band: float
    agreement: float
    hard_band: float
    per_hour: float
    max_gap: int


def _limits(outlier_filter: OutlierFilter, interval: Interval) -> _Limits:
    per_hour = interval.per_hour
    return _Limits(
        outlier_filter.band,
        outlier_filter.wick_band,
        outlier_filter.agreement,
        math.log(outlier_filter.hard_band),
        float(per_hour),
        MAX_GAP_HOURS * per_hour,
    )


@njit(cache=True, error_model="numpy")
def _agree(close, references, agreement):  # type: ignore[no-untyped-def]
    """Whether the majority of the close and its references is within `agreement` of the close."""
    known = agreeing = 0
    for k in range(references.shape[0]):
        if not math.isnan(references[k]):
            known += 1
            if abs(math.log(close / references[k])) <= agreement:
                agreeing += 1
    return agreeing > 0 and 2 * (agreeing + 1) > known + 1


@njit(cache=True, error_model="numpy")
def _filter_bar(bar, references, state, limits, write):  # type: ignore[no-untyped-def]
    close = bar[3]
    waits = state[2] != 0.0
    if math.isnan(close):
        state[1] += 1.0
        return 4 if waits else 0
    fresh = math.isnan(state[0]) or state[1] > limits.max_gap
    move = 0.0
    scale = 1.0
    if not fresh:
        move = math.log(close / state[0])
        scale = math.sqrt(max(1.0, (state[1] + 1.0) / limits.per_hour))
    same_side = state[2] * move > 0.0
    reach = abs(move)
    if same_side:
        reach = min(reach, abs(math.log(close / state[3])))
    if reach > limits.hard_band:
        state[1] += 1.0
        if write:
            bar[:] = np.nan
        return 5 if waits else 2
    good = abs(move) <= limits.band * scale or _agree(close, references, limits.agreement)
    if not good:
        echo = bar[1] == state[3] and bar[2] == state[3]
        good = same_side and not echo
    if not good:
        state[1] += 1.0
        state[2] = 1.0 if move > 0.0 else -1.0
        state[3] = close
        if write:
            bar[:] = np.nan
        return 3
    upper = lower = close
    if not fresh:
        upper = max(close, state[0])
        lower = min(close, state[0])
    wick = math.exp(limits.wick_band * scale)
    upper *= wick
    lower /= wick
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
def _filter_rows(  # type: ignore[no-untyped-def]
    bars, settled, references, state, limits, write, verdicts
):
    """Rows in turn; with `settled`, each row is filtered as known and the next after it as settled.

    `references` are those of `bars` and those of `settled`.
    """
    before = np.empty(state.shape[1])
    for t in range(bars.shape[0]):
        for s in range(bars.shape[1]):
            before[:] = state[s]
            verdicts[t, s] = _filter_bar(bars[t, s], references[0][t, s], state[s], limits, write)
            if settled is not None:
                state[s] = before
                _filter_bar(settled[t, s], references[1][t, s], state[s], limits, write)
