"""Distance to a call, in standard deviations of the book's hourly profit and loss."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.account.aggregates import FIRST_VOLATILITY, HEADROOM
from features.definition import AccountFeature

LIMIT = 1_000.0
"""Beyond this many standard deviations distances count as equal."""


def distance(index: int, volatility: str) -> AccountFeature:
    """Headroom over the book's volatility under one estimate.

    Formula: ``max(0, headroom) / sigma``, at most `LIMIT`. Unit: hourly standard deviations. Zero
    at and below zero headroom, so that it never falls when the account deposits and never rises
    with volatility. NaN in warm-up.

    References
    ----------
    Merton, Journal of Finance 29 (1974) 449-470 (distance to default).
    """
    return AccountFeature(
        name=f"distance_{volatility}",
        unit="hourly standard deviations",
        formula=f"max(0, headroom) / sigma, sigma from {volatility}",
        reference="Merton (1974)",
        kernel=kernel,
        inputs=(volatility, "correlation.slow"),
        constants=(LIMIT,),
        family="volatility",
        params=(FIRST_VOLATILITY + index,),
        monotone=-1,
        uses_equity=True,
    )


@njit(cache=True, error_model="numpy")
def ratio(headroom, sigma):  # type: ignore[no-untyped-def]
    """Distance of one account."""
    if np.isnan(headroom) or np.isnan(sigma):
        return np.nan
    if headroom <= 0.0:
        return 0.0
    if headroom >= LIMIT * sigma:
        return LIMIT
    return headroom / sigma


@njit(cache=True, error_model="numpy")
def kernel(moments, out, column):  # type: ignore[no-untyped-def]
    """`column` is the moment that holds the volatility."""
    for n in range(len(moments)):
        out[n] = ratio(moments[n, HEADROOM], moments[n, column])
