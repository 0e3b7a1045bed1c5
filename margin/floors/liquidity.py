"""Liquidity floor: what closing every position would cost."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.requirement import Requirement
from margin.ruleset import FloorRules
from margin.view import MarketView

Floats = npt.NDArray[np.float64]


def liquidity_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    r"""Cost of closing each account, with the risk of the extra days where it is concentrated.

    For a position of absolute notional n, with daily volatility ``s = volatility * sqrt(24)``,
    participation ``q = n / adv`` and liquidation days ``d = q / concentration_share``::

        cost = n * (half_spread + impact * s * sqrt(q) + confidence * s * sqrt(max(0, d - 1) / 3))

    at most n itself: what is worth n is not closed at a greater loss. The last term is the
    standard deviation of the loss on a position sold evenly over the d − 1 days beyond the
    first, whose mean squared size is a third of its square.

    Where the volatility is not known, `unknown_volatility` stands for it (hourly); where the
    volume is not known, `unknown_participation` stands for q. No volume at all costs n.

    Parameters
    ----------
    requirement:
        Its resolved positions.
    view:
        Volatility (one hour) and average daily volume (settlement currency) by symbol.
    rules:
        Parameters in ``rules.liquidity``.

    Returns
    -------
    Settlement currency, shape (N,): finite and never negative; NaN for an account with a
    position that cannot be valued.

    References
    ----------
    Almgren, Thum, Hauptmann, Li (2005), "Direct estimation of equity market impact"; Tóth et
    al. (2011), "Anomalous price impact and the critical nature of liquidity in financial
    markets" (square-root law); Almgren, Chriss (2000), "Optimal execution of portfolio
    transactions" (risk of even liquidation).
    """
    own = rules.liquidity
    floor: Floats = _closing_cost(
        requirement.leg_start,
        requirement.leg_symbol,
        requirement.leg_notional,
        view.volatility,
        view.adv,
        own.half_spread,
        own.impact,
        own.concentration_share,
        own.confidence,
        own.unknown_volatility,
        own.unknown_participation,
    )
    return floor


@njit(cache=True, error_model="numpy")
def _closing_cost(  # type: ignore[no-untyped-def]
    start,
    symbol,
    notional,
    volatility,
    adv,
    half_spread,
    impact,
    concentration_share,
    confidence,
    unknown_volatility,
    unknown_participation,
):
    floor = np.zeros(start.shape[0] - 1)
    for i in range(floor.shape[0]):
        for leg in range(start[i], start[i + 1]):
            s = symbol[leg]
            if s < 0:
                floor[i] = np.nan
                break
            size = abs(notional[leg])
            hourly = volatility[s] if volatility[s] >= 0.0 else unknown_volatility
            daily = hourly * math.sqrt(24.0)
            participation = unknown_participation
            if not math.isnan(adv[s]):
                participation = size / adv[s] if adv[s] > 0.0 else np.inf
            extra_days = max(0.0, participation / concentration_share - 1.0)
            cost = size * (
                half_spread
                + impact * daily * math.sqrt(participation)
                + confidence * daily * math.sqrt(extra_days / 3.0)
            )
            if not cost < size:  # a NaN, from 0 * inf, costs the whole position too
                cost = size
            floor[i] += cost
    return floor
