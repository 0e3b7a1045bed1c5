"""Exponentially weighted volatility."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval


@feature
def ewma_volatility(half_life_hours: float) -> MarketFeature:
    """Volatility with exponentially falling weights.

    Formula: ``sqrt(n * sum w_i r_i^2 / sum w_i)`` over log returns r_i, ``w_i = 2^(-age / H)``,
    n bars an hour, H the half-life. Unit: standard deviation of the hourly log return. NaN until
    one half-life of returns has been seen; a missing bar changes nothing.

    References
    ----------
    J.P. Morgan/Reuters, RiskMetrics Technical Document, 4th ed. (1996), chapter 5.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        bars = half_life_hours * interval.per_hour
        return (0.5 ** (1.0 / bars), float(interval.per_hour), bars)

    return MarketFeature(
        name=f"ewma_volatility_{half_life_hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n sum w r^2 / sum w), w = 2^(-age/H)",
        reference="RiskMetrics (1996)",
        kernel=kernel,
        params=params,
        state_size=lambda _: 3,
        settings=(half_life_hours,),
        book_form="volatility",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, decay, per_hour, warm_up):  # type: ignore[no-untyped-def]
    """State: weighted sum of squares, sum of weights, number of returns."""
    for s in range(inputs.shape[1]):
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                state[s, :] = 0.0
            r = inputs[LOG_RETURN, s, t]
            if not np.isnan(r):
                state[s, 0] = decay * state[s, 0] + r * r
                state[s, 1] = decay * state[s, 1] + 1.0
                state[s, 2] += 1.0
            if state[s, 2] < warm_up:
                out[s, t] = np.nan
            else:
                out[s, t] = np.sqrt(per_hour * state[s, 0] / state[s, 1])
