"""Bars of the volatility forecast: one an hour, whatever the interval of the market.

An hour counts once its last bar has closed. Its bar is made of the finer bars that are there: the
open of the first one, the highest high, the lowest low, the close of the last one, the sums of
turnover and of log returns.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from features.market.inputs import CLOSE, HIGH, HOUR, LOG_RETURN, LOW, OPEN, RESET, TURNOVER

VARIANCE_FLOOR = 2.5e-8
"""Least variance of an hour: a standard deviation of 1.6 basis points, below which ticks rule."""

VARIANCE, RETURN, LOG_TURNOVER = range(3)
"""What `kernel` writes of each hour, at the row where it closes; NaN in all other rows."""
WIDTH = 3

_OPEN, _HIGH, _LOW, _CLOSE, _TURNOVER, _RETURN, _RETURNS = range(7)
STATE_SIZE = 7
"""The hour that is not over, a symbol: its bar so far (an open of 0 stands for none), the sum of
its log returns and how many they are."""

_BODY_WEIGHT = 2.0 * np.log(2.0) - 1.0


@njit(cache=True, error_model="numpy")
def bar_variance(opening, high, low, close):  # type: ignore[no-untyped-def]
    """Variance of one bar by Garman and Klass (1980), formula (19b), no less than the floor.

    Formula: ``max(ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2, 2.5e-8)``. Unit: squared log return.
    NaN for NaN.
    """
    reach, body = np.log(high / low), np.log(close / opening)
    variance = 0.5 * reach * reach - _BODY_WEIGHT * body * body
    return np.maximum(variance, VARIANCE_FLOOR)


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, hourly):  # type: ignore[no-untyped-def]
    """Fill `hourly`, shape (3, S, T), from market inputs; moves `state`, shape (S, 7)."""
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                row[:] = 0.0
            close = inputs[CLOSE, s, t]
            if close == close:
                if row[_OPEN] == 0.0:
                    row[_OPEN] = inputs[OPEN, s, t]
                    row[_HIGH] = inputs[HIGH, s, t]
                    row[_LOW] = inputs[LOW, s, t]
                else:
                    row[_HIGH] = max(row[_HIGH], inputs[HIGH, s, t])
                    row[_LOW] = min(row[_LOW], inputs[LOW, s, t])
                row[_CLOSE] = close
                turnover, r = inputs[TURNOVER, s, t], inputs[LOG_RETURN, s, t]
                if turnover == turnover:
                    row[_TURNOVER] += turnover
                if r == r:
                    row[_RETURN] += r
                    row[_RETURNS] += 1.0
            hourly[VARIANCE, s, t] = np.nan
            hourly[RETURN, s, t] = np.nan
            hourly[LOG_TURNOVER, s, t] = np.nan
            hour = inputs[HOUR, s, t]
            if hour != np.floor(hour):
                continue
            if row[_OPEN] > 0.0:
                hourly[VARIANCE, s, t] = bar_variance(
                    row[_OPEN], row[_HIGH], row[_LOW], row[_CLOSE]
                )
                hourly[LOG_TURNOVER, s, t] = np.log(1.0 + row[_TURNOVER])
                if row[_RETURNS] > 0.0:
                    hourly[RETURN, s, t] = row[_RETURN]
            row[:] = 0.0
