"""Average of a market feature over a book."""

from __future__ import annotations

from numba import njit

from features.definition import AccountFeature, Family


def book_mean(column: int, market_feature: str, family: Family) -> AccountFeature:
    """A market feature averaged over the positions, weighted by absolute notional.

    Formula: ``sum_i |x_i| f_i / sum_i |x_i|``. Unit: that of the market feature. Zero without
    positions; NaN while one of its symbols has none. Its family is the market feature's.

    References
    ----------
    The market feature's own.
    """
    return AccountFeature(
        name=f"book_{market_feature}",
        unit=f"as {market_feature}",
        formula=f"sum |x| f / sum |x|, f = {market_feature}",
        reference=f"as {market_feature}",
        kernel=kernel,
        inputs=(market_feature,),
        params=(column,),
        family=family,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out, column):  # type: ignore[no-untyped-def]
    """`column` is the moment that holds the average."""
    for n in range(len(moments)):
        out[n] = moments[n, column]
