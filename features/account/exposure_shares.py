"""Exposures of a book per unit of its gross exposure: volatility, direction, options."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import (
    FIRST_VOLATILITY,
    GAMMA,
    GROSS,
    GROSS_GAMMA,
    GROSS_VEGA,
    NET,
    OPTION_DELTA,
    VEGA,
)
from features.account.distance import SHOCK
from features.definition import AccountFeature, feature

VOL_MOVE = 0.10
"""Ten points of annual vol."""

_HULL = "Hull (2021), chapter 19"


@feature
def book_volatility(index: int, volatility: str) -> AccountFeature:
    """The book's own volatility under one estimate, over its gross notional.

    Formula: ``sqrt(sum_ij x_i x_j rho_ij v_i v_j + sum_ij g_i g_j (rho_ij v_i v_j)^2 / 2) /
    sum_i |x_i|`` with the delta exposures x and cash gammas g of options. Unit: per sqrt(hour).
    Zero without positions; NaN in warm-up. The probability never falls in it.

    References
    ----------
    Markowitz, Journal of Finance 7 (1952) 77-91.
    """
    return AccountFeature(
        name=f"book_{volatility}",
        unit="per sqrt(hour)",
        formula=f"sigma / gross, sigma from {volatility}",
        reference="Markowitz (1952)",
        kernel=share_kernel,
        inputs=(volatility, "correlation.slow"),
        family="volatility",
        params=(FIRST_VOLATILITY + index,),
        monotone=1,
    )


@feature
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
        kernel=share_kernel,
        params=(NET,),
    )


@feature
def delta_share() -> AccountFeature:
    """Net delta exposure of the options over the gross exposure of the book.

    Formula: ``sum_o x_o / sum_i |x_i|`` over options o, x being delta exposures and, of spot and
    perps, notionals. Unit: fraction, from -1 to 1. Zero without options.

    References
    ----------
    Hull, Options, Futures, and Other Derivatives, 11th ed. (2021), chapter 19.
    """
    return AccountFeature(
        name="delta_share",
        unit="fraction of gross",
        formula="sum of option deltas / gross",
        reference=_HULL,
        kernel=share_kernel,
        params=(OPTION_DELTA,),
        options_only=True,
    )


@feature
def gamma_share() -> AccountFeature:
    """Net change of exposure in a move of 10%, over gross exposure and gross change together.

    Formula: ``0.10 sum_i g_i / (sum_i |x_i| + 0.10 sum_i |g_i|)`` with cash gammas g and delta
    exposures x. Unit: fraction, from -1 (short options on nothing else) to 1 (long). Zero without
    options.

    References
    ----------
    Hull, Options, Futures, and Other Derivatives, 11th ed. (2021), chapter 19.
    """
    return AccountFeature(
        name="gamma_share",
        unit="fraction of exposure after a move of 10%",
        formula="0.10 sum g / (gross + 0.10 sum abs g)",
        reference=_HULL,
        kernel=_sensitivity_share,
        constants=(SHOCK,),
        params=(SHOCK, GAMMA, GROSS_GAMMA),
        options_only=True,
    )


@feature
def vega_share() -> AccountFeature:
    """Net gain from ten points of vol, over gross exposure and gross gains together.

    Formula: ``0.10 sum_i w_i / (sum_i |x_i| + 0.10 sum_i |w_i|)`` with vegas w for 1.00 of annual
    vol and delta exposures x. Unit: fraction, from -1 (short vol on nothing else) to 1 (long).
    Zero without options.

    References
    ----------
    Hull, Options, Futures, and Other Derivatives, 11th ed. (2021), chapter 19.
    """
    return AccountFeature(
        name="vega_share",
        unit="fraction of exposure and gains from vol",
        formula="0.10 sum w / (gross + 0.10 sum abs w)",
        reference=_HULL,
        kernel=_sensitivity_share,
        constants=(VOL_MOVE,),
        params=(VOL_MOVE, VEGA, GROSS_VEGA),
        options_only=True,
    )


@njit(cache=True, error_model="numpy")
def share(amount, gross):  # type: ignore[no-untyped-def]
    """An amount of one account over its gross notional; 0 without positions."""
    return amount / gross if gross > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def share_kernel(aggregates, out, column):  # type: ignore[no-untyped-def]
    """`column` is the aggregate whose share of the gross notional it is."""
    for n in range(len(aggregates)):
        out[n] = share(aggregates[n, column], aggregates[n, GROSS])


@njit(cache=True, error_model="numpy")
def _sensitivity_share(aggregates, out, move, net, gross):  # type: ignore[no-untyped-def]
    """`net` and `gross` are the aggregates of a sensitivity to a `move`."""
    for n in range(len(aggregates)):
        whole = aggregates[n, GROSS] + move * aggregates[n, gross]
        out[n] = move * aggregates[n, net] / whole if whole > 0.0 else 0.0
