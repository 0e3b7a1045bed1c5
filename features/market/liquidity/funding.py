"""Funding: what holding a perpetual costs."""

from __future__ import annotations

from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import FUNDING, RESET


def funding_rate(hours: float) -> MarketFeature:
    """Mean funding rate an hour over the last `hours`.

    Formula: ``mean(f_i)`` of the rate in force at each bar's close, a settlement's rate divided
    by the hours of its own interval. Unit: fraction of notional an hour, paid by long positions
    where positive. Bars at which no rate is in force are left out; NaN until the window is full or
    while under half of it is there.

    References
    ----------
    He, Manela, Ross and von Wachter, "Fundamentals of Perpetual Futures" (2022).
    """
    return MarketFeature(
        name=f"funding_rate_{hours:g}h",
        family="liquidity",
        unit="per hour",
        formula="mean(f)",
        reference="He, Manela, Ross and von Wachter (2022)",
        kernel=kernel,
        inputs=("context.funding",),
        params=rolling.window_params(hours),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of the rates in force."""
    rolling.fold_mean(inputs[FUNDING], inputs[RESET], state, out, window)
