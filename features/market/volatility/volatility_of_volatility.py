"""Volatility of volatility: how far the log of volatility wanders."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import joint_rolling, rolling
from features.market.inputs import LOG_RETURN, RESET
from features.market.joint_rolling import HEADER as FIRST
from market.core.clock import Interval

_EWMA = 3


@feature
def volatility_of_volatility(half_life_hours: float, hours: float) -> MarketFeature:
    """Standard deviation of the log of a fast exponentially weighted volatility.

    Formula: ``sd(ln sigma_i)`` over the bars of the last `hours`, sigma the
    `ewma_volatility` of half-life H, sd with divisor W. Unit: log volatility. A missing bar takes
    no part; NaN until the window is full or while under half of it is there.

    References
    ----------
    Corsi, Mittnik, Pigorsch and Pigorsch, Econometric Reviews 27 (2008) 46-78.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        bars = half_life_hours * interval.per_hour
        return (0.5 ** (1.0 / bars), bars, rolling.bars_in(hours, interval))

    return MarketFeature(
        name=f"volatility_of_volatility_{hours:g}h",
        family="volatility",
        unit="log volatility",
        formula=f"sd(ln sigma), sigma = EWMA of {half_life_hours:g} h",
        reference="Corsi et al. (2008)",
        kernel=kernel,
        params=params,
        state_size=lambda interval: _EWMA + joint_rolling.state_size(hours, 2)(interval),
        settings=(hours, half_life_hours),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, decay, warm_up, window):  # type: ignore[no-untyped-def]
    """State: sums of squares and of weights and count of the EWMA, then `joint_rolling`
    of ln sigma and of its square."""
    for s in range(inputs.shape[1]):
        ewma, ring = state[s, :_EWMA], state[s, _EWMA:]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(state[s])
            r = inputs[LOG_RETURN, s, t]
            x = np.nan
            if not np.isnan(r):
                ewma[0] = decay * ewma[0] + r * r
                ewma[1] = decay * ewma[1] + 1.0
                ewma[2] += 1.0
                if ewma[2] >= warm_up and ewma[0] > 0.0:
                    x = 0.5 * np.log(ewma[0] / ewma[1])
            joint_rolling.push(ring, window, (x, x * x))
            count = joint_rolling.count(ring, window)
            mean = ring[FIRST] / count
            variance = ring[FIRST + 1] / count - mean * mean
            out[s, t] = np.sqrt(max(variance, 0.0)) if variance == variance else np.nan
