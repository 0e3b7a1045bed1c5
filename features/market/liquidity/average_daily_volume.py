"""Average daily volume: what positions are measured against."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import RESET, TURNOVER


@feature
def average_daily_volume(hours: float) -> MarketFeature:
    """Mean turnover a day over the last `hours`.

    Formula: ``24 n * mean(V_i C_i)``, n bars an hour. Unit: settlement currency a day. Missing
    bars are left out of the mean; NaN until the window is full or while under half of it is there.

    References
    ----------
    Regulation (EU) 153/2013, Article 24 and Annex I (liquidity of positions).
    """
    return MarketFeature(
        name=f"average_daily_volume_{hours:g}h",
        family="liquidity",
        unit="settlement currency per day",
        formula="24 n mean(V C)",
        reference="EU 153/2013",
        kernel=kernel,
        params=rolling.window_and_rate(hours, 24.0),
        state_size=rolling.state_size(hours),
        settings=(hours,),
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_day):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of turnover."""
    for s in range(inputs.shape[1]):
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(state[s])
            rolling.push(state[s], window, inputs[TURNOVER, s, t])
            mean = rolling.mean(state[s], window)
            out[s, t] = per_day * max(mean, 0.0) if not np.isnan(mean) else np.nan
