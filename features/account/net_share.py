"""Direction of the book."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import GROSS, NET
from features.definition import AccountFeature


def net_share() -> AccountFeature:
    """Net over gross notional.

    Formula: ``sum_i x_i / sum_i |x_i|``. Unit: fraction, from -1 (all short) to 1 (all
    long). Zero without positions.

    References
    ----------
    Jorion, Value at Risk, 3rd ed. (2006), chapter 7.
    """
    return AccountFeature(
        name="net_share",
        unit="fraction of gross",
        formula="net / gross",
        reference="Jorion (2006)",
        kernel=kernel,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        gross = moments[n, GROSS]
        out[n] = moments[n, NET] / gross if gross > 0.0 else 0.0
