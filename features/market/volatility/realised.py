"""Realised volatility over a window."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval


def realised_volatility(hours: float) -> MarketFeature:
    """Root of the mean squared log return over the last `hours`.

    Formula: ``sqrt(n * sum r_i^2 / W)`` over the W bars of the window, n bars an hour. Unit:
    standard deviation of the hourly log return. A missing bar counts as a return of zero, because
    the return after the gap carries the whole move. NaN until the window is full.

    References
    ----------
    Andersen, Bollerslev, Diebold and Labys, Econometrica 71 (2003); the windows of Corsi's HAR,
    Journal of Financial Econometrics 7 (2009).
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(hours, interval), float(interval.per_hour))

    return MarketFeature(
        name=f"realised_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n sum r^2 / W)",
        reference="Andersen et al. (2003)",
        kernel=kernel,
        params=params,
        state_size=rolling.state_size(hours),
        settings=(hours,),
        is_volatility=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of squared returns."""
    for s in range(inputs.shape[1]):
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(state[s])
            else:
                r = inputs[LOG_RETURN, s, t]
                rolling.push(state[s], window, 0.0 if np.isnan(r) else r * r)
            variance = rolling.mean(state[s], window)
            # Removing large squares from the sum can leave a tiny negative rest.
            out[s, t] = np.sqrt(per_hour * max(variance, 0.0)) if variance == variance else np.nan
