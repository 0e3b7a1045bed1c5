"""Size of the book against the market."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.account.aggregates import ADV_SHARE
from features.definition import AccountFeature, feature

LIMIT = 1e6
"""More days of all trading than this count as equal, as where nothing is traded at all."""


@feature
def adv_share() -> AccountFeature:
    """Largest position against its symbol's average daily volume, as a logarithm.

    Formula: ``ln(10^-12 + min(10^6, max_i |x_i| / ADV_i))``. Unit: log of days of all trading.
    Days are limited to `LIMIT`. NaN in warm-up.

    References
    ----------
    Almgren and Chriss, Journal of Risk 3 (2000) 5-39.
    """
    return AccountFeature(
        name="adv_share",
        unit="log days",
        formula="ln(10^-12 + min(10^6, max |x| / ADV))",
        reference="Almgren and Chriss (2000)",
        kernel=kernel,
        inputs=("average_daily_volume",),
        constants=(LIMIT,),
        family="liquidity",
    )


@njit(cache=True, error_model="numpy")
def kernel(aggregates, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(aggregates)):
        days = aggregates[n, ADV_SHARE]
        if days > LIMIT:  # so that NaN stays NaN
            days = LIMIT
        out[n] = np.log(1e-12 + days)
