"""Basis: how far the perpetual stands from spot."""

from __future__ import annotations

from numba import njit

from features.definition import MarketFeature
from features.market import rolling
from features.market.inputs import BASIS, RESET


def basis(hours: float) -> MarketFeature:
    """Mean log distance of the perpetual's price from spot over the last `hours`.

    Formula: ``mean(ln(P_i / S_i))`` over the closes at which both are known. Unit: log ratio,
    positive where the perpetual is dearer. NaN until the window is full or while under half of it
    is there.

    References
    ----------
    Makarov and Schoar, Journal of Financial Economics 135 (2020) 293-319.
    """
    return MarketFeature(
        name=f"basis_{hours:g}h",
        family="liquidity",
        unit="log ratio",
        formula="mean(ln(perpetual / spot))",
        reference="Makarov and Schoar (2020)",
        kernel=kernel,
        inputs=("context.basis",),
        params=rolling.window_params(hours),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of the basis."""
    rolling.fold_mean(inputs[BASIS], inputs[RESET], state, out, window)
