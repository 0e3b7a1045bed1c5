"""Rogers-Satchell volatility: from range and body, free of drift."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import BODY, DOWN, RESET, UP
from market.core.clock import Interval


def rogers_satchell_volatility(hours: float) -> MarketFeature:
    """Volatility from open, high, low and close that a trend within the bars does not raise.

    Formula: ``sqrt(n * mean(u (u - c) + d (d - c)))`` over the bars of the last `hours`, with
    ``u = ln(H/O)``, ``d = ln(L/O)``, ``c = ln(C/O)`` and n bars an hour. Unit: standard deviation
    of the hourly log return. Missing bars are left out of the mean; NaN until the window is full
    or while under half of it is there.

    References
    ----------
    Rogers and Satchell, Annals of Applied Probability 1 (1991) 504-512.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(hours, interval), float(interval.per_hour))

    return MarketFeature(
        name=f"rogers_satchell_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n mean(u (u - c) + d (d - c)))",
        reference="Rogers and Satchell (1991)",
        kernel=kernel,
        params=params,
        state_size=rolling.state_size(hours),
        settings=(hours,),
        is_volatility=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of one-bar variances."""
    for s in range(inputs.shape[1]):
        own = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(own)
            up, down, body = inputs[UP, s, t], inputs[DOWN, s, t], inputs[BODY, s, t]
            rolling.push(own, window, up * (up - body) + down * (down - body))
            variance = rolling.mean(own, window)
            out[s, t] = np.sqrt(per_hour * max(variance, 0.0)) if variance == variance else np.nan
