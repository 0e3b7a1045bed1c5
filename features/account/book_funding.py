"""Funding that a book pays."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import FUNDING
from features.definition import AccountFeature


def book_funding() -> AccountFeature:
    """Funding that the present positions pay an hour at the mean rate of the last day.

    Formula: ``sum_i x_i f_i / sum_i |x_i|`` with the mean funding rates f. Unit: fraction of gross
    notional an hour, positive where the account pays. Zero without positions; NaN where a rate is
    not known.

    References
    ----------
    He, Manela, Ross and von Wachter, "Fundamentals of Perpetual Futures" (2022).
    """
    return AccountFeature(
        name="book_funding",
        unit="of gross per hour",
        formula="sum x f / sum |x|, f = funding_rate_24h",
        reference="He, Manela, Ross and von Wachter (2022)",
        kernel=kernel,
        inputs=("funding_rate_24h",),
        family="liquidity",
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        out[n] = moments[n, FUNDING]
