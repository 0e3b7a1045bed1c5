"""Amihud illiquidity: how far a given turnover moves the price."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import LOG_RETURN, RESET, TURNOVER


@feature
def amihud_illiquidity(hours: float) -> MarketFeature:
    """Mean absolute return per million of turnover over the last `hours`.

    Formula: ``mean(|r_i| / (V_i C_i / 10^6))``. Unit: log return per million of the settlement
    currency. Bars without volume or without a return are left out of the mean; NaN until the
    window is full or while under half of it is there.

    References
    ----------
    Amihud, Journal of Financial Markets 5 (2002) 31-56.
    """
    return MarketFeature(
        name=f"amihud_illiquidity_{hours:g}h",
        family="liquidity",
        unit="return per 10^6 turnover",
        formula="mean(|r| / (V C / 10^6))",
        reference="Amihud (2002)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of return per turnover."""
    for s in range(inputs.shape[1]):
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(state[s])
            turnover = inputs[TURNOVER, s, t]
            impact = np.nan
            if turnover > 0.0:
                impact = abs(inputs[LOG_RETURN, s, t]) / (turnover * 1e-6)
            rolling.push(state[s], window, impact)
            out[s, t] = rolling.mean(state[s], window)
