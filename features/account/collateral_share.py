"""Collateral in coins per unit of gross notional."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import COLLATERAL, GROSS
from features.account.headroom_share import LIMIT
from features.definition import AccountFeature


def collateral_share() -> AccountFeature:
    """Collateral that is not cash, after haircuts, over gross notional.

    Formula: ``sum_a c_a / gross``, within ±`LIMIT`. Unit: fraction of gross notional, negative for
    debts. Zero where there is none; ±`LIMIT` for collateral without positions.

    References
    ----------
    Regulation (EU) 153/2013, Articles 39 to 42 (collateral).
    """
    return AccountFeature(
        name="collateral_share",
        unit="fraction of gross",
        formula="sum c / gross",
        reference="EU 153/2013, Articles 39 to 42",
        kernel=kernel,
        constants=(LIMIT,),
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        collateral, gross = moments[n, COLLATERAL], moments[n, GROSS]
        if collateral == 0.0:
            out[n] = 0.0
        elif abs(collateral) >= LIMIT * gross:
            out[n] = LIMIT if collateral > 0.0 else -LIMIT
        else:
            out[n] = collateral / gross
