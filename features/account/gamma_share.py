"""Curvature of a book: how far a move of the market changes its exposure."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import GAMMA, GROSS, GROSS_GAMMA
from features.account.shock_distance import SHOCK
from features.definition import AccountFeature


def gamma_share() -> AccountFeature:
    """Net change of exposure in a move of 10%, over gross exposure and gross change together.

    Formula: ``0.10 sum_i g_i / (sum_i |x_i| + 0.10 sum_i |g_i|)`` with cash gammas g and delta
    exposures x. Unit: fraction, from -1 (short options on nothing else) to 1 (long). Zero without
    options.

    References
    ----------
    Hull, Options, Futures, and Other Derivatives, 11th ed. (2021), chapter 19.
    """
    return AccountFeature(
        name="gamma_share",
        unit="fraction of exposure after a move of 10%",
        formula="0.10 sum g / (gross + 0.10 sum abs g)",
        reference="Hull (2021), chapter 19",
        kernel=kernel,
        constants=(SHOCK,),
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        whole = moments[n, GROSS] + SHOCK * moments[n, GROSS_GAMMA]
        out[n] = SHOCK * moments[n, GAMMA] / whole if whole > 0.0 else 0.0
