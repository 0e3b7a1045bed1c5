"""Wrong-way collateral: how far it falls when the book does."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.account.aggregates import BETA_EXPOSURE, COLLATERAL_BETA, GROSS
from features.account.headroom_share import LIMIT
from features.definition import AccountFeature


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
        kernel=kernel,
        inputs=("market_beta",),
        constants=(LIMIT,),
        family="correlation",
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        exposure, gross = moments[n, COLLATERAL_BETA], moments[n, GROSS]
        book = moments[n, BETA_EXPOSURE]
        if book < 0.0:
            exposure = -exposure
        if np.isnan(exposure) or np.isnan(book):
            out[n] = np.nan
        elif exposure == 0.0 or book == 0.0:
            out[n] = 0.0
        elif abs(exposure) >= LIMIT * gross:
            out[n] = LIMIT if exposure > 0.0 else -LIMIT
        else:
            out[n] = exposure / gross
