"""Down-side volatility: the semivariance of falls."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval


def downside_volatility(hours: float) -> MarketFeature:
    """Root of the realised semivariance of negative returns over the last `hours`.

    Formula: ``sqrt(n * sum min(r_i, 0)^2 / W)`` over the W bars of the window, n bars an hour.
    Unit: per sqrt(hour); the square is the falls' part of `realised_volatility` squared. A missing
    bar counts as a return of zero. NaN until the window is full.

    References
    ----------
    Barndorff-Nielsen, Kinnebrock and Shephard, in Volatility and Time Series Econometrics (2010).
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(hours, interval), float(interval.per_hour))

    return MarketFeature(
        name=f"downside_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n sum min(r, 0)^2 / W)",
        reference="Barndorff-Nielsen, Kinnebrock and Shephard (2010)",
        kernel=kernel,
        params=params,
        state_size=rolling.state_size(hours),
        settings=(hours,),
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of the squares of negative returns."""
    for s in range(inputs.shape[1]):
        own = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(own)
            else:
                r = inputs[LOG_RETURN, s, t]
                rolling.push(own, window, r * r if r < 0.0 else 0.0)
            variance = rolling.mean(own, window)
            out[s, t] = np.sqrt(per_hour * max(variance, 0.0)) if variance == variance else np.nan
