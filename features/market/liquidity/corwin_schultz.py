"""Corwin-Schultz spread: the bid-ask spread implied by highs and lows."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import BODY, DOWN, GAP, RESET, UP


@feature
def corwin_schultz_spread(hours: float) -> MarketFeature:
    """Mean relative spread estimated from pairs of neighbouring bars.

    Formula: with ``beta`` the sum of ``ln(H/L)^2`` of two bars and ``gamma`` that of their joint
    range, ``alpha = (sqrt(2 beta) - sqrt(beta)) / k - sqrt(gamma / k)``, ``k = 3 - 2 sqrt(2)``,
    ``S = 2 (e^alpha - 1) / (1 + e^alpha)``, negative estimates set to zero, averaged over the last
    `hours`. Unit: fraction of the price. A pair needs two bars without a gap; NaN until the window
    is full or while under half of it is there.

    References
    ----------
    Corwin and Schultz, Journal of Finance 67 (2012) 719-760, equations 14 and 18.
    """
    return MarketFeature(
        name=f"corwin_schultz_spread_{hours:g}h",
        family="liquidity",
        unit="fraction of price",
        formula="2 (e^a - 1) / (1 + e^a), a = (sqrt(2b) - sqrt(b)) / k - sqrt(g / k)",
        reference="Corwin and Schultz (2012)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=lambda interval: rolling.state_size(hours)(interval) + 2,
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of pair spreads, then high and low over the close of the bar
    before, as logarithms."""
    k = 3.0 - 2.0 * np.sqrt(2.0)
    width = state.shape[1]
    for s in range(inputs.shape[1]):
        ring, last = state[s, : width - 2], state[s, width - 2 :]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
                last[:] = np.nan
            up, down = inputs[UP, s, t], inputs[DOWN, s, t]
            # Both bars in units of this bar's open.
            gap = inputs[GAP, s, t]
            joint = max(up, last[0] - gap) - min(down, last[1] - gap)
            beta = (up - down) ** 2 + (last[0] - last[1]) ** 2
            alpha = (np.sqrt(2.0 * beta) - np.sqrt(beta)) / k - np.sqrt(joint * joint / k)
            spread = 2.0 * math.tanh(0.5 * alpha) if not alpha < 0.0 else 0.0
            # max() of numba drops a NaN by argument order, so it is put back by hand.
            rolling.push(ring, window, spread if not np.isnan(beta + gap) else np.nan)
            body = inputs[BODY, s, t]
            last[0], last[1] = up - body, down - body
            out[s, t] = rolling.mean(ring, window)
