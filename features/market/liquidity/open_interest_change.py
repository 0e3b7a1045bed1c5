"""Change of open interest: whether positions are being built or closed."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import OPEN_INTEREST, RESET

_HEADER = 2


def open_interest_change(hours: float) -> MarketFeature:
    """Log change of the open interest over the last `hours`.

    Formula: ``ln(OI_t / OI_(t-W))`` in base units, each the last one known at its close. Unit: log
    ratio. NaN until the window is full and where either is not known.

    References
    ----------
    Bessembinder and Seguin, Journal of Financial and Quantitative Analysis 28 (1993) 21-39.
    """
    return MarketFeature(
        name=f"open_interest_change_{hours:g}h",
        family="liquidity",
        unit="log ratio",
        formula="ln(OI_t / OI_(t-W))",
        reference="Bessembinder and Seguin (1993)",
        kernel=kernel,
        inputs=("context.open_interest",),
        params=rolling.window_params(hours),
        state_size=lambda interval: _HEADER + rolling.bars_in(hours, interval),
        settings=(hours,),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: position, filled slots, then a ring of the open interests of the window."""
    for s in range(inputs.shape[1]):
        own = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                own[:] = 0.0
            now = inputs[OPEN_INTEREST, s, t]
            slot = _HEADER + int(own[0])
            before = own[slot] if own[1] == window else np.nan
            own[slot] = now
            own[0] = own[0] + 1.0 if own[0] + 1.0 < window else 0.0
            own[1] = min(own[1] + 1.0, float(window))
            out[s, t] = np.log(now / before) if now > 0.0 and before > 0.0 else np.nan
