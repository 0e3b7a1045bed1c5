"""Headroom per unit of gross notional."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import GROSS, HEADROOM
from features.definition import AccountFeature

LIMIT = 1_000.0
"""Beyond this many times the gross notional headroom counts as equal."""


def headroom_share() -> AccountFeature:
    """Headroom over gross notional.

    Formula: ``headroom / gross``, within ±`LIMIT`. Unit: fraction of gross notional. Rises with
    every deposit, also across zero headroom; `LIMIT` for headroom without positions.

    References
    ----------
    Regulation (EU) 153/2013, Article 41 (margin calls).
    """
    return AccountFeature(
        name="headroom_share",
        unit="fraction of gross",
        formula="headroom / gross",
        reference="EU 153/2013, Article 41",
        kernel=kernel,
        constants=(LIMIT,),
        monotone=-1,
        uses_equity=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        headroom, gross = moments[n, HEADROOM], moments[n, GROSS]
        if abs(headroom) >= LIMIT * gross:
            out[n] = LIMIT if headroom > 0.0 else -LIMIT
        else:
            out[n] = headroom / gross
