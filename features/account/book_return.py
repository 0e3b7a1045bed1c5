"""Momentum of the book."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import RETURN
from features.definition import AccountFeature


def book_return() -> AccountFeature:
    """Return of the present positions over the last day.

    Formula: ``sum_i x_i r_i / sum_i |x_i|`` with the log returns r of the last 24 hours.
    Unit: log return, positive where the market went the account's way. NaN in warm-up.

    References
    ----------
    Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012) 228-250.
    """
    return AccountFeature(
        name="book_return",
        unit="log return",
        formula="sum x r_24h / sum |x|",
        reference="Moskowitz, Ooi and Pedersen (2012)",
        kernel=kernel,
        inputs=("trailing_return_24h",),
        family="momentum",
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        out[n] = moments[n, RETURN]
