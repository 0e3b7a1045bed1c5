"""Exposure of a book to implied volatility."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import GROSS, GROSS_VEGA, VEGA
from features.definition import AccountFeature

VOL_MOVE = 0.10
"""Ten points of annual vol."""


def vega_share() -> AccountFeature:
    """Net gain from ten points of vol, over gross exposure and gross gains together.

    Formula: ``0.10 sum_i w_i / (sum_i |x_i| + 0.10 sum_i |w_i|)`` with vegas w for 1.00 of annual
    vol and delta exposures x. Unit: fraction, from -1 (short vol on nothing else) to 1 (long).
    Zero without options.

    References
    ----------
    Hull, Options, Futures, and Other Derivatives, 11th ed. (2021), chapter 19.
    """
    return AccountFeature(
        name="vega_share",
        unit="fraction of exposure and gains from vol",
        formula="0.10 sum w / (gross + 0.10 sum abs w)",
        reference="Hull (2021), chapter 19",
        kernel=kernel,
        constants=(VOL_MOVE,),
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        whole = moments[n, GROSS] + VOL_MOVE * moments[n, GROSS_VEGA]
        out[n] = VOL_MOVE * moments[n, VEGA] / whole if whole > 0.0 else 0.0
