"""Volatility of the book per unit of gross notional."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import FIRST_VOLATILITY, GROSS
from features.definition import AccountFeature


def book_volatility(index: int, volatility: str) -> AccountFeature:
    """The book's own volatility under one estimate, over its gross notional.

    Formula: ``sqrt(sum_ij x_i x_j rho_ij v_i v_j + sum_ij g_i g_j (rho_ij v_i v_j)^2 / 2) /
    sum_i |x_i|`` with the delta exposures x and cash gammas g of options. Unit: per sqrt(hour).
    Zero without positions; NaN in warm-up. The probability never falls in it.

    References
    ----------
    Markowitz, Journal of Finance 7 (1952) 77-91.
    """
    return AccountFeature(
        name=f"book_{volatility}",
        unit="per sqrt(hour)",
        formula=f"sigma / gross, sigma from {volatility}",
        reference="Markowitz (1952)",
        kernel=kernel,
        inputs=(volatility, "correlation.slow"),
        family="volatility",
        params=(FIRST_VOLATILITY + index,),
        monotone=1,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out, column):  # type: ignore[no-untyped-def]
    """`column` is the moment that holds the volatility."""
    for n in range(len(moments)):
        gross = moments[n, GROSS]
        out[n] = moments[n, column] / gross if gross > 0.0 else 0.0
