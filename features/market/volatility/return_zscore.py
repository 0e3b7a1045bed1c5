"""Return z-score: how surprising the last bar's return is."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval

LIMIT = 100.0
"""Beyond this many standard deviations surprises count as equal."""


@feature
def return_zscore(half_life_hours: float) -> MarketFeature:
    """Last return over the volatility that was expected before it.

    Formula: ``r_t / sigma_(t-1)`` with the exponentially weighted standard deviation of one bar's
    return, half-life H, within ±`LIMIT`. Unit: standard deviations. A missing bar leaves the last
    score standing; zero where nothing has moved. NaN until one half-life of returns has been seen.

    References
    ----------
    J.P. Morgan/Reuters, RiskMetrics Technical Document, 4th ed. (1996), chapter 5.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        bars = half_life_hours * interval.per_hour
        return (0.5 ** (1.0 / bars), bars)

    return MarketFeature(
        name=f"return_zscore_{half_life_hours:g}h",
        family="volatility",
        unit="standard deviations",
        formula="r_t / sigma_(t-1), sigma = EWMA of half-life H",
        reference="RiskMetrics (1996)",
        kernel=kernel,
        constants=(LIMIT,),
        params=params,
        state_size=lambda _: 4,
        settings=(half_life_hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, decay, warm_up):  # type: ignore[no-untyped-def]
    """State: weighted sum of squares, sum of weights, number of returns, last score."""
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                row[:] = 0.0
            r = inputs[LOG_RETURN, s, t]
            if not np.isnan(r):
                if row[0] > 0.0:
                    score = r / np.sqrt(row[0] / row[1])
                    row[3] = min(LIMIT, max(-LIMIT, score))
                else:
                    row[3] = 0.0
                row[0] = decay * row[0] + r * r
                row[1] = decay * row[1] + 1.0
                row[2] += 1.0
            out[s, t] = row[3] if row[2] >= warm_up else np.nan
