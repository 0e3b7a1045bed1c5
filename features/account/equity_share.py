"""Equity per unit of gross notional: the inverse of leverage."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import GROSS, HEADROOM, MAINTENANCE
from features.account.headroom_share import LIMIT
from features.definition import AccountFeature


def equity_share() -> AccountFeature:
    """Equity over gross notional, which unlike leverage is monotone across zero equity.

    Formula: ``(headroom + maintenance margin) / gross``, within ±`LIMIT`. Unit: fraction of gross
    notional. Rises with every deposit; `LIMIT` for equity without positions.

    References
    ----------
    Brunnermeier and Pedersen, Review of Financial Studies 22 (2009) 2201-2238 (leverage and
    margins).
    """
    return AccountFeature(
        name="equity_share",
        unit="fraction of gross",
        formula="(headroom + MM) / gross",
        reference="Brunnermeier and Pedersen (2009)",
        kernel=kernel,
        constants=(LIMIT,),
        monotone=-1,
        uses_equity=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        equity, gross = moments[n, HEADROOM] + moments[n, MAINTENANCE], moments[n, GROSS]
        if abs(equity) >= LIMIT * gross:
            out[n] = LIMIT if equity > 0.0 else -LIMIT
        else:
            out[n] = equity / gross
