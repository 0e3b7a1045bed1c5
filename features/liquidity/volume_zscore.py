"""Volume z-score: how unusual the turnover of the last bar is."""

from __future__ import annotations

import numpy as np
from numba import njit

from features import rolling
from features.definition import MarketFeature


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
        state_size=lambda interval: 2 * rolling.state_size(hours)(interval) + 1,
        settings=(hours,),
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.rolling` of x and of x squared, then the last score."""
    width = (state.shape[1] - 1) // 2
    for t in range(inputs.shape[0]):
        for s in range(inputs.shape[1]):
            first, second = state[s, :width], state[s, width : 2 * width]
            if inputs[t, s, 6] == 1.0:
                rolling.clear(state[s])
                state[s, -1] = np.nan
            x = np.log1p(inputs[t, s, 4] * inputs[t, s, 3])
            rolling.push(first, window, x)
            rolling.push(second, window, x * x)
            if not np.isnan(x):
                mean = rolling.mean(first, window)
                variance = rolling.mean(second, window) - mean * mean
                if variance > 1e-12 * mean * mean:
                    state[s, -1] = (x - mean) / np.sqrt(variance)
                else:
                    # Also the NaN of warm-up comes this way.
                    state[s, -1] = 0.0 * variance
            out[t, s] = state[s, -1] if first[1] > 0.0 else np.nan
