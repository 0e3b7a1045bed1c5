"""Regressors of the volatility forecast: what the last year of hourly bars says of each symbol.

w is the variance of an hour divided by its seasonal factor as known before it, ``g exp(-s)``.
Windows count the hourly bars that are there; a missing one is skipped and leaves the regressors as
they are. A symbol younger than a window uses all bars it has. A gap of over a day erases nothing:
the regressors are NaN while it lasts and in the 168 hours after it, and then the long windows
reach back across it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from features.market.inputs import HOUR, RESET
from features.market.volatility.forecast.hours import (
    LOG_TURNOVER,
    RETURN,
    VARIANCE,
    VARIANCE_FLOOR,
)

WINDOWS = (1, 2, 4, 8, 16, 24, 48, 96, 168, 336, 720)
HALF_LIVES = (16.0, 64.0, 256.0)
_DECAYS = tuple(0.5 ** (1.0 / hours) for hours in HALF_LIVES)
RETURN_WINDOWS = (1, 6, 24, 168)
LONG_RUN_HOURS = 8_760
DISPERSION_HOURS = WEEK = 168
RETURN_LIMIT = 6.0

REGRESSORS: tuple[str, ...] = (
    *(f"log_volatility_{hours}h" for hours in WINDOWS),
    *(f"log_ewma_volatility_{hours:g}h" for hours in HALF_LIVES),
    "log_volatility_long_run",
    "log_volatility_dispersion_168h",
    *(f"scaled_return_{hours}h" for hours in RETURN_WINDOWS),
    *(f"absolute_scaled_return_{hours}h" for hours in (1, 24)),
    "seasonal_log_volatility",
    *(f"log_turnover_ratio_{hours}h" for hours in (1, 6)),
)
"""Columns that `kernel` writes, in their order."""

COUNT = len(REGRESSORS)

_CLOSES, _BARS, _PLACE, _LONG_SUM, _LAST_S = range(5)
_EWMA = 5
_VALUES = _EWMA + 2 * len(HALF_LIVES)
_W = _VALUES + COUNT
_SHORT = 720
_HALF_LOG = _W + _SHORT
_DEVIATION = _HALF_LOG + LONG_RUN_HOURS
_RETURNS = _DEVIATION + WEEK
_TURNOVER = _RETURNS + WEEK
STATE_SIZE = _TURNOVER + WEEK
"""State of a symbol: hours since a reset, bars in all, place in the ring of a year, sum over it,
profile at the last bar; sums and weights of the EWMAs; the regressors; then the rings: w over
720 bars, its half log over a year, the 4 h regressor, returns and log turnover over a week."""


@njit(cache=True, error_model="numpy")
def kernel(inputs, hourly, known, state, out):  # type: ignore[no-untyped-def]
    """Fill the first 25 of `out`, shape (33, S, T), with the regressors.

    Parameters
    ----------
    inputs, hourly, known:
        Market inputs (20, S, T), hourly bars (3, S, T) and the profile known before each (T,).
    state:
        Shape (S, 10,024).
    """
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                row[_CLOSES] = 1.0
                row[_VALUES:_W] = np.nan
            hour = inputs[HOUR, s, t]
            if hour == np.floor(hour):
                there = hourly[VARIANCE, s, t] == hourly[VARIANCE, s, t]
                if there:
                    _push(row, hourly[:, s, t], known[t])
                warm = row[_CLOSES] >= WEEK
                if warm and (there or row[_VALUES] != row[_VALUES]):
                    _regress(row)
                if row[_CLOSES] > 0.0:
                    row[_CLOSES] += 1.0
            ready = row[_CLOSES] > 0.0
            for i in range(COUNT):
                out[i, s, t] = row[_VALUES + i] if ready else np.nan


@njit(cache=True, error_model="numpy")
def _push(row, bar, profile):  # type: ignore[no-untyped-def]
    """Put one hourly bar into the rings."""
    bars, place = row[_BARS], int(row[_PLACE])
    factor = np.exp(-profile)
    w = bar[VARIANCE] * factor
    half_log = 0.5 * np.log(w)
    slot = _HALF_LOG + place
    if bars >= LONG_RUN_HOURS:
        row[_LONG_SUM] -= row[slot]
    row[slot] = half_log
    row[_LONG_SUM] += half_log
    row[_W + int(bars % _SHORT)] = w
    week = int(bars % WEEK)
    r = bar[RETURN]
    row[_RETURNS + week] = 0.0 if r != r else r
    row[_TURNOVER + week] = bar[LOG_TURNOVER]
    row[_BARS] = bars + 1.0
    row[_DEVIATION + week] = 0.5 * np.log(_mean(row[_W : _W + _SHORT], bars + 1.0, 4))
    row[_LAST_S] = profile
    if r == r:
        for k in range(len(HALF_LIVES)):
            row[_EWMA + 2 * k] = _DECAYS[k] * row[_EWMA + 2 * k] + r * r * factor
            row[_EWMA + 2 * k + 1] = _DECAYS[k] * row[_EWMA + 2 * k + 1] + 1.0
    place += 1
    if place == LONG_RUN_HOURS:
        # Summed anew once a year, so that rounding does not build up.
        place = 0
        total = 0.0
        for i in range(_HALF_LOG, _HALF_LOG + LONG_RUN_HOURS):
            total += row[i]
        row[_LONG_SUM] = total
    row[_PLACE] = place


@njit(cache=True, error_model="numpy")
def _mean(ring, pushed, window):  # type: ignore[no-untyped-def]
    """Mean of the last `window` values of a ring into which so many were pushed, or of all."""
    count = int(min(pushed, float(window)))
    place = int((pushed - 1.0) % len(ring))
    total = 0.0
    for _ in range(count):
        total += ring[place]
        place = place - 1 if place > 0 else len(ring) - 1
    return total / count


@njit(cache=True, error_model="numpy")
def _regress(row):  # type: ignore[no-untyped-def]
    """Write the regressors from the rings."""
    bars, x = row[_BARS], row[_VALUES:_W]
    ring = row[_W : _W + _SHORT]
    place = int((bars - 1.0) % _SHORT)
    total, done, week_variance = 0.0, 0, 0.0
    for i in range(len(WINDOWS)):
        count = int(min(bars, float(WINDOWS[i])))
        while done < count:
            total += ring[place]
            place = place - 1 if place > 0 else _SHORT - 1
            done += 1
        x[i] = 0.5 * np.log(total / done)
        if WINDOWS[i] == WEEK:
            week_variance = total / done
    i = len(WINDOWS)
    for k in range(len(HALF_LIVES)):
        weight = row[_EWMA + 2 * k + 1]
        mean = row[_EWMA + 2 * k] / weight if weight > 0.0 else 0.0
        x[i] = 0.5 * np.log(max(mean, VARIANCE_FLOOR))
        i += 1
    x[i] = row[_LONG_SUM] / min(bars, float(LONG_RUN_HOURS))
    x[i + 1] = _dispersion(row[_DEVIATION:_RETURNS], int(min(bars, float(DISPERSION_HOURS))))
    i += 2
    sigma = np.sqrt(week_variance)
    for window in RETURN_WINDOWS:
        count = min(bars, float(window))
        moved = _mean(row[_RETURNS:_TURNOVER], bars, window) * count
        scaled = moved / (sigma * np.sqrt(count))
        x[i] = min(max(scaled, -RETURN_LIMIT), RETURN_LIMIT)
        i += 1
    x[i] = abs(x[i - 4])
    x[i + 1] = abs(x[i - 2])
    x[i + 2] = 0.5 * row[_LAST_S]
    usual = _mean(row[_TURNOVER:], bars, WEEK)
    x[i + 3] = _mean(row[_TURNOVER:], bars, 1) - usual
    x[i + 4] = _mean(row[_TURNOVER:], bars, 6) - usual


@njit(cache=True, error_model="numpy")
def _dispersion(ring, count):  # type: ignore[no-untyped-def]
    """Standard deviation of the first `count` values of a ring, divisor `count`."""
    mean = 0.0
    for i in range(count):
        mean += ring[i]
    mean /= count
    squares = 0.0
    for i in range(count):
        squares += (ring[i] - mean) * (ring[i] - mean)
    return np.sqrt(squares / count)
