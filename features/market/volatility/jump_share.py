"""Jump share: how much of the variance came in jumps."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import joint_rolling, rolling
from features.market.inputs import LOG_RETURN, RESET
from features.market.joint_rolling import HEADER as FIRST


@feature
def jump_share(hours: float) -> MarketFeature:
    """Part of the realised variance that bipower variation does not explain.

    Formula: ``max(0, 1 - (pi / 2) mean(|r_i| |r_(i-1)|) / mean(r_i^2))`` over the bars of the
    last `hours` that have a return before them. Unit: fraction. A missing bar brings no pair; zero
    where nothing moves; NaN until the window is full or while under half of it is there.

    References
    ----------
    Barndorff-Nielsen and Shephard, Journal of Financial Econometrics 2 (2004) 1-37.
    """
    return MarketFeature(
        name=f"jump_share_{hours:g}h",
        family="volatility",
        unit="fraction",
        formula="max(0, 1 - (pi/2) mean(|r_i| |r_(i-1)|) / mean(r_i^2))",
        reference="Barndorff-Nielsen and Shephard (2004)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=lambda interval: joint_rolling.state_size(hours, 2)(interval) + 1,
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `joint_rolling` of pair products and of squares, then the last return."""
    for s in range(inputs.shape[1]):
        ring = state[s, :-1]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
                state[s, -1] = np.nan
            r = inputs[LOG_RETURN, s, t]
            joint_rolling.push(ring, window, (abs(r) * abs(state[s, -1]), r * r))
            state[s, -1] = r
            total = ring[FIRST + 1]
            if np.isnan(joint_rolling.count(ring, window)):
                out[s, t] = np.nan
            elif total > 0.0:
                out[s, t] = min(1.0, max(0.0, 1.0 - 0.5 * np.pi * ring[FIRST] / total))
            else:
                out[s, t] = 0.0
