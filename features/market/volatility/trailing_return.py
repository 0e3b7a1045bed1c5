"""Log return over a window: which way a symbol has been going."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import LOG_RETURN, RESET


@feature
def trailing_return(hours: float) -> MarketFeature:
    """Log return over the last `hours`.

    Formula: ``ln(C_t / C_(t-W))``. Unit: log return. Computed as the sum of the log returns of the
    window; a missing bar counts as zero. NaN until the window is full.

    References
    ----------
    Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012) 228-250.
    """
    return MarketFeature(
        name=f"trailing_return_{hours:g}h",
        family="momentum",
        unit="log return",
        formula="ln(C_t / C_(t-W))",
        reference="Moskowitz, Ooi and Pedersen (2012)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=rolling.state_size(hours),
        settings=(hours,),
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of log returns."""
    for s in range(inputs.shape[1]):
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(state[s])
            else:
                r = inputs[LOG_RETURN, s, t]
                rolling.push(state[s], window, 0.0 if np.isnan(r) else r)
            out[s, t] = window * rolling.mean(state[s], window)
