"""What an account has, per unit of gross notional: headroom, equity, collateral.

Each lies within ±`LIMIT`, so that it stays finite without positions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from features.account.aggregates import (
    BETA_EXPOSURE,
    COLLATERAL,
    COLLATERAL_BETA,
    GROSS,
    HEADROOM,
    MAINTENANCE,
)
from features.definition import AccountFeature, feature

LIMIT = 1_000.0
"""Beyond this many times the gross notional amounts count as equal."""


@feature
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
        kernel=headroom_kernel,
        constants=(LIMIT,),
        monotone=-1,
        uses_equity=True,
    )


@feature
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
        kernel=equity_kernel,
        constants=(LIMIT,),
        monotone=-1,
        uses_equity=True,
    )


@feature
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
        kernel=_collateral,
        constants=(LIMIT,),
    )


@feature
def wrong_way_share() -> AccountFeature:
    """Market exposure of the collateral in the direction of the book's own.

    Formula: ``sign(sum_i x_i beta_i) sum_a c_a beta_a / gross``, within ±`LIMIT`, with collateral
    c after haircuts. Unit: fraction of gross notional; positive where the collateral loses in the
    market move in which the book does. Zero without collateral or market exposure; NaN in warm-up.

    References
    ----------
    Regulation (EU) 575/2013, Article 291 (wrong-way risk); Sharpe, Management Science 9 (1963)
    277-293.
    """
    return AccountFeature(
        name="wrong_way_share",
        unit="fraction of gross",
        formula="sign(sum x beta) sum c beta / gross",
        reference="EU 575/2013, Article 291",
        kernel=_wrong_way,
        inputs=("market_beta",),
        constants=(LIMIT,),
        family="correlation",
    )


@njit(cache=True, error_model="numpy")
def bounded(amount, gross):  # type: ignore[no-untyped-def]
    """An amount of one account over its gross notional, within ±`LIMIT`."""
    if abs(amount) >= LIMIT * gross:
        return LIMIT if amount > 0.0 else -LIMIT
    return amount / gross


@njit(cache=True, error_model="numpy")
def headroom_kernel(aggregates, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(aggregates)):
        out[n] = bounded(aggregates[n, HEADROOM], aggregates[n, GROSS])


@njit(cache=True, error_model="numpy")
def equity_kernel(aggregates, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(aggregates)):
        equity = aggregates[n, HEADROOM] + aggregates[n, MAINTENANCE]
        out[n] = bounded(equity, aggregates[n, GROSS])


@njit(cache=True, error_model="numpy")
def _collateral(aggregates, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(aggregates)):
        amount = aggregates[n, COLLATERAL]
        out[n] = bounded(amount, aggregates[n, GROSS]) if amount != 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _wrong_way(aggregates, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(aggregates)):
        exposure, book = aggregates[n, COLLATERAL_BETA], aggregates[n, BETA_EXPOSURE]
        if book < 0.0:
            exposure = -exposure
        if np.isnan(exposure) or np.isnan(book):
            out[n] = np.nan
        elif exposure == 0.0 or book == 0.0:
            out[n] = 0.0
        else:
            out[n] = bounded(exposure, aggregates[n, GROSS])
