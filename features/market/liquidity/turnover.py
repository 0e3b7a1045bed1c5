"""Turnover: how much is traded now against the week."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import RESET, TURNOVER
from market.core.clock import Interval


@feature
def relative_turnover(short_hours: float, long_hours: float) -> MarketFeature:
    """Log of the mean turnover of a short window over that of a long one.

    Formula: ``ln((1 + mean_short(V C)) / (1 + mean_long(V C)))``; one unit of the settlement
    currency keeps it finite without trades. Unit: log ratio. Missing bars are left out of the
    means; NaN until the long window is full or while under half of either is there.

    References
    ----------
    Lo and Wang, Review of Financial Studies 13 (2000) 257-300.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(short_hours, interval), rolling.bars_in(long_hours, interval))

    return MarketFeature(
        name=f"relative_turnover_{short_hours:g}h",
        family="liquidity",
        unit="log ratio",
        formula=f"ln((1 + mean_{short_hours:g}h(V C)) / (1 + mean_{long_hours:g}h(V C)))",
        reference="Lo and Wang (2000)",
        kernel=kernel,
        params=params,
        state_size=lambda interval: (
            rolling.state_size(short_hours)(interval) + rolling.state_size(long_hours)(interval)
        ),
        settings=(long_hours, short_hours),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, short, long):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of turnover over both windows."""
    width = rolling.HEADER + short
    for s in range(inputs.shape[1]):
        near, far = state[s, :width], state[s, width:]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(near)
                rolling.clear(far)
            turnover = inputs[TURNOVER, s, t]
            rolling.push(near, short, turnover)
            rolling.push(far, long, turnover)
            now, usual = rolling.mean(near, short), rolling.mean(far, long)
            if np.isnan(now) or np.isnan(usual):
                out[s, t] = np.nan
            else:
                out[s, t] = np.log((1.0 + max(now, 0.0)) / (1.0 + max(usual, 0.0)))
