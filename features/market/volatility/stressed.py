"""Stressed volatility: the wildest window of the whole history."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval


def stressed_volatility(hours: float) -> MarketFeature:
    """Highest realised volatility over `hours` that has been seen so far.

    Formula: ``max_(i <= t) realised_volatility_i`` of the same window. Unit: standard deviation of
    the hourly log return. No gap erases it: the window starts anew, the maximum stays. NaN until
    the first window is full.

    References
    ----------
    Regulation (EU) 153/2013, Article 28(1)(b) (stressed observations).
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(hours, interval), float(interval.per_hour))

    return MarketFeature(
        name=f"stressed_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="max so far of sqrt(n sum r^2 / W)",
        reference="EU 153/2013, Article 28(1)(b)",
        kernel=kernel,
        params=params,
        state_size=lambda interval: rolling.state_size(hours)(interval) + 3,
        settings=(hours,),
        survives_gaps=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `rolling` of squared returns, then the highest mean, whether there is one,
    and whether the symbol has been listed."""
    width = state.shape[1] - 3
    for s in range(inputs.shape[1]):
        ring, highest = state[s, :width], state[s, width:]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
                highest[2] = 1.0
            elif highest[2] == 1.0:
                r = inputs[LOG_RETURN, s, t]
                rolling.push(ring, window, 0.0 if np.isnan(r) else r * r)
            variance = rolling.mean(ring, window)
            if variance == variance:
                highest[0] = max(highest[0], variance)
                highest[1] = 1.0
            out[s, t] = np.sqrt(per_hour * highest[0]) if highest[1] == 1.0 else np.nan
