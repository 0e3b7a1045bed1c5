"""Roll spread: the bid-ask spread implied by the bounce of closes."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import joint_rolling, rolling
from features.market.inputs import LOG_RETURN, RESET
from features.market.joint_rolling import HEADER as FIRST


@feature
def roll_spread(hours: float) -> MarketFeature:
    """Relative spread from the covariance of neighbouring returns.

    Formula: ``2 sqrt(max(0, -cov(r_i, r_(i-1))))`` over the pairs of the last `hours`, with
    divisor W. Unit: fraction of the price. A pair needs two bars without a gap; zero where the
    covariance is positive; NaN until the window is full or while under half of it is there.

    References
    ----------
    Roll, Journal of Finance 39 (1984) 1127-1139.
    """
    return MarketFeature(
        name=f"roll_spread_{hours:g}h",
        family="liquidity",
        unit="fraction of price",
        formula="2 sqrt(max(0, -cov(r_i, r_(i-1))))",
        reference="Roll (1984)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=lambda interval: joint_rolling.state_size(hours, 3)(interval) + 1,
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `joint_rolling` of products, of first and of second returns of the pairs,
    then the last return."""
    for s in range(inputs.shape[1]):
        ring = state[s, :-1]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
                state[s, -1] = np.nan
            second, first = inputs[LOG_RETURN, s, t], state[s, -1]
            joint_rolling.push(ring, window, (first * second, first, second))
            state[s, -1] = second
            pairs = joint_rolling.count(ring, window)
            means = ring[FIRST + 1] / pairs * (ring[FIRST + 2] / pairs)
            covariance = ring[FIRST] / pairs - means
            out[s, t] = 2.0 * np.sqrt(max(0.0, -covariance)) if covariance == covariance else np.nan
