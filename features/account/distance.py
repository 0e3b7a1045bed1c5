"""Distance to a call: headroom in standard deviations of profit and loss, or in market shocks."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.account.aggregates import BETA_EXPOSURE, FIRST_VOLATILITY, HEADROOM
from features.definition import AccountFeature, feature

LIMIT = 1_000.0
"""Beyond this many standard deviations or shocks distances count as equal."""

SHOCK = 0.10
"""The scenario: the market moves by so much, either way."""


@feature
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
        kernel=distance_kernel,
        inputs=(volatility, "correlation.slow"),
        constants=(LIMIT,),
        family="volatility",
        params=(FIRST_VOLATILITY + index,),
        monotone=-1,
        uses_equity=True,
    )


@feature
def shock_distance() -> AccountFeature:
    """Headroom over the loss in the worse of two shocks of the whole market.

    Formula: ``max(0, headroom) / (0.10 |sum_i x_i beta_i|)``, at most 1000: every symbol moves by
    its beta times 10%, up or down. Unit: shocks that the account can bear. Zero at and below zero
    headroom; NaN in warm-up. Says nothing of a book without market exposure (1000).

    References
    ----------
    CME Group, SPAN methodology (worst of a set of scenarios); Sharpe, Management Science 9 (1963)
    277-293.
    """
    return AccountFeature(
        name="shock_distance",
        unit="market shocks of 10%",
        formula="max(0, headroom) / (0.10 |sum x beta|)",
        reference="CME SPAN, Sharpe (1963)",
        kernel=shock_kernel,
        inputs=("market_beta",),
        constants=(SHOCK, LIMIT),
        family="correlation",
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
def shock_ratio(headroom, exposure):  # type: ignore[no-untyped-def]
    """Shocks that one account of an exposure by beta can bear."""
    return ratio(headroom, SHOCK * abs(exposure))


@njit(cache=True, error_model="numpy")
def distance_kernel(aggregates, out, column):  # type: ignore[no-untyped-def]
    """`column` is the aggregate that holds the volatility."""
    for n in range(len(aggregates)):
        out[n] = ratio(aggregates[n, HEADROOM], aggregates[n, column])


@njit(cache=True, error_model="numpy")
def shock_kernel(aggregates, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(aggregates)):
        out[n] = shock_ratio(aggregates[n, HEADROOM], aggregates[n, BETA_EXPOSURE])
