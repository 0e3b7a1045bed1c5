"""Open interest in days of trading: how crowded a market is."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import CLOSE, OPEN_INTEREST, RESET, TURNOVER
from market.core.clock import Interval


def open_interest_days(hours: float) -> MarketFeature:
    """Log of the open interest's value over the mean turnover a day of the last `hours`.

    Formula: ``ln(OI C / (24 n mean(V C)))``, n bars an hour. Unit: log days of all trading.
    Missing bars are left out of the mean and leave the last close standing; NaN until the window is
    full, while under half of it is there, without turnover and where the open interest is not
    known.

    References
    ----------
    Bessembinder and Seguin, Journal of Financial and Quantitative Analysis 28 (1993) 21-39.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(hours, interval), 24.0 * interval.per_hour)

    return MarketFeature(
        name=f"open_interest_days_{hours:g}h",
        family="liquidity",
        unit="log days",
        formula="ln(OI C / (24 n mean(V C)))",
        reference="Bessembinder and Seguin (1993)",
        kernel=kernel,
        inputs=("context.open_interest",),
        params=params,
        state_size=lambda interval: rolling.state_size(hours)(interval) + 1,
        settings=(hours,),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_day):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of turnover, then the last close."""
    for s in range(inputs.shape[1]):
        own = state[s]
        ring = own[:-1]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
            if not np.isnan(inputs[CLOSE, s, t]):
                own[-1] = inputs[CLOSE, s, t]
            rolling.push(ring, window, inputs[TURNOVER, s, t])
            value = inputs[OPEN_INTEREST, s, t] * own[-1]
            daily = per_day * rolling.mean(ring, window)
            out[s, t] = np.log(value / daily) if value > 0.0 and daily > 0.0 else np.nan
