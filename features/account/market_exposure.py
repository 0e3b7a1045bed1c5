"""Dependence of the book on the market factor."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import MARKET_CORRELATION
from features.definition import AccountFeature


def market_exposure() -> AccountFeature:
    """Correlation of the book with the equally weighted market.

    Formula: ``sum_i x_i v_i rho_im / sigma`` with the correlations rho_im of symbols and market.
    Unit: correlation, signed by direction. Zero without positions; NaN in warm-up.

    References
    ----------
    Sharpe, Management Science 9 (1963) 277-293.
    """
    return AccountFeature(
        name="market_exposure",
        unit="correlation",
        formula="sum x v rho_m / sigma",
        reference="Sharpe (1963)",
        kernel=kernel,
        inputs=("market_correlation", "cross_volatility", "correlation.slow"),
        family="correlation",
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        out[n] = moments[n, MARKET_CORRELATION]
