"""Volume z-score: how unusual the turnover of the last bar is."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import joint_rolling, rolling
from features.market.inputs import RESET, TURNOVER
from features.market.joint_rolling import HEADER as FIRST


@feature
def volume_zscore(hours: float) -> MarketFeature:
    """Standardised logarithm of the last bar's turnover against the last `hours`.

    Formula: ``(x_t - mean(x)) / sd(x)`` with ``x = ln(1 + V C)`` over the window that ends with
    the bar itself, sd with divisor W. Unit: standard deviations. A missing bar leaves the last
    score standing and takes no part in the window; zero where the window does not vary; NaN until
    the window is full or while under half of it is there.

    References
    ----------
    Gervais, Kaniel and Mingelgrin, Journal of Finance 56 (2001) 877-919.
    """
    return MarketFeature(
        name=f"volume_zscore_{hours:g}h",
        family="liquidity",
        unit="standard deviations",
        formula="(x - mean(x)) / sd(x), x = ln(1 + V C)",
        reference="Gervais, Kaniel and Mingelgrin (2001)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=lambda interval: joint_rolling.state_size(hours, 2)(interval) + 1,
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.joint_rolling` of x and of x squared, then the last score."""
    for s in range(inputs.shape[1]):
        ring = state[s, :-1]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
                state[s, -1] = np.nan
            x = np.log(1.0 + inputs[TURNOVER, s, t])
            joint_rolling.push(ring, window, (x, x * x))
            if not np.isnan(x):
                count = joint_rolling.count(ring, window)
                mean = ring[FIRST] / count
                variance = ring[FIRST + 1] / count - mean * mean
                if variance > 1e-12 * mean * mean:
                    state[s, -1] = (x - mean) / np.sqrt(variance)
                else:
                    # Also the NaN of warm-up comes this way.
                    state[s, -1] = 0.0 * variance
            out[s, t] = state[s, -1] if ring[1] > 0.0 else np.nan
