"""Stale-data floor: how far a price may have moved since it was last seen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.requirement import Requirement
from margin.ruleset import FloorRules
from margin.view import MarketView

Floats = npt.NDArray[np.float64]

STALE_AFTER_INTERVALS = 2.0
"""A symbol is stale when its newest bar closed longer ago than this many intervals."""


def stale_data_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Price risk of the positions whose data are stale.

    ``sum(n * volatility * confidence * sqrt(age_hours))`` over the positions, of absolute
    notional n, whose symbol's newest bar is older than two intervals; at most n each. Fresh
    positions add nothing. An age that is not known counts as stale and as `unknown_age_hours`,
    a volatility that is not known as `unknown_volatility`.

    Parameters
    ----------
    requirement:
        Its resolved positions.
    view:
        Volatility (one hour) and age (hours) by symbol.
    rules:
        Parameters in ``rules.stale_data``.

    Returns
    -------
    Settlement currency, shape (N,): finite and never negative; NaN for an account with a
    position that cannot be valued.

    References
    ----------
    J.P. Morgan/Reuters (1996), "RiskMetrics Technical Document" (square root of time).
    """
    own = rules.stale_data
    floor: Floats = _drift_risk(
        requirement.leg_start,
        requirement.leg_symbol,
        requirement.leg_notional,
        view.volatility,
        view.age_hours,
        STALE_AFTER_INTERVALS * view.interval_hours,
        own.confidence,
        own.unknown_volatility,
        own.unknown_age_hours,
    )
    return floor


@njit(cache=True)
def _drift_risk(  # type: ignore[no-untyped-def]
    start,
    symbol,
    notional,
    volatility,
    age_hours,
    fresh_hours,
    confidence,
    unknown_volatility,
    unknown_age_hours,
):
    floor = np.zeros(start.shape[0] - 1)
    for i in range(floor.shape[0]):
        for leg in range(start[i], start[i + 1]):
            s = symbol[leg]
            if s < 0:
                floor[i] = np.nan
                break
            age = age_hours[s]
            if age <= fresh_hours:
                continue
            if math.isnan(age):
                age = unknown_age_hours
            size = abs(notional[leg])
            hourly = volatility[s] if volatility[s] >= 0.0 else unknown_volatility
            cost = size * (hourly * confidence * math.sqrt(age))
            if not cost < size:  # a NaN, from 0 * inf, costs the whole position too
                cost = size
            floor[i] += cost
    return floor
