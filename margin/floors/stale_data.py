"""Stale-data floor: how far a price may have moved since it was last seen."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from margin.book.account_requirement import Requirement
from margin.book.portfolio_batch import row_sums
from margin.floors.term import FloorTerm
from margin.rules.floors import FloorRules
from margin.valuation.view import MarketView
from market.core.arrays import Bools, Floats, Ints

STALE_AFTER_INTERVALS = 2.0
"""A symbol is stale when its newest bar closed longer ago than this many intervals."""


def stale_data_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Price risk of the positions whose data are stale.

    ``sum(n * volatility * confidence * sqrt(age_hours))`` over the positions, of absolute
    notional n, whose price is older than two intervals or whose newest price is suspect; at most n
    each. The age is that of the price which values the position, bar close or quoted mark. Fresh
    positions add nothing. An age that is not known counts as stale and as `unknown_age_hours`, and
    a suspect price is at least as old as that: it is not known since when the mark has been wrong.
    A volatility that is not known counts as `unknown_volatility`, or as the long one if that is
    higher.

    An option is as old as the oldest of its underlying's price and the quotes of its forward and
    vol. Its n is its delta exposure, and a cash gamma g costs ``abs(g) * m^2 / 2`` more, with the
    move ``m = min(1, volatility * confidence * sqrt(age_hours))``: hedged in the underlying, it
    still drifts.

    Shapes, NaN policy and errors as in `margin.floors.registry.Floor`. Table: ``stale_data``.

    References
    ----------
    J.P. Morgan/Reuters (1996), "RiskMetrics Technical Document" (square root of time).
    """
    cost, _ = _drifts(requirement, view, rules)
    return row_sums(requirement.leg_start, cost)


def explain_stale_data(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `stale_data_floor`, each by position."""
    cost, quarantined = _drifts(requirement, view, rules)
    return (
        FloorTerm(
            "stale_price",
            "how far the price may have moved since the newest bar or option quote",
            "position",
            np.where(quarantined, 0.0, cost),
        ),
        FloorTerm(
            "suspect_price",
            "how far the price may be from a mark whose newest price is quarantined",
            "position",
            np.where(quarantined, cost, 0.0),
        ),
    )


def _drifts(requirement: Requirement, view: MarketView, rules: FloorRules) -> tuple[Floats, Bools]:
    """Price risk of each position, and whether its price is suspect; shape (L,)."""
    table, options = rules.stale_data, requirement.options
    zeros = np.zeros(len(requirement.leg_symbol))
    drifts: tuple[Floats, Bools] = _drift_risk(
        _Legs(
            requirement.leg_symbol,
            requirement.leg_notional,
            zeros if options is None else options.gamma,
            zeros if options is None else options.age_hours,
            requirement.leg_age_hours,
            requirement.leg_suspect,
        ),
        view.volatility_or(table.unknown_volatility),
        STALE_AFTER_INTERVALS * view.interval_hours,
        table.confidence,
        table.unknown_volatility,
        table.unknown_age_hours,
    )
    return drifts


class _Legs(NamedTuple):
    """Positions for the kernel, see `Requirement`; `quote_age` is that of option quotes."""

    symbol: Ints
    notional: Floats
    gamma: Floats
    quote_age: Floats
    age_hours: Floats
    suspect: Bools


@njit(cache=True)
def _drift_risk(  # type: ignore[no-untyped-def]
    legs, volatility, fresh_hours, confidence, unknown_volatility, unknown_age_hours
):
    risk = np.zeros(legs.symbol.shape[0])
    quarantined = np.zeros(legs.symbol.shape[0], dtype=np.bool_)
    for leg in range(legs.symbol.shape[0]):
        s = legs.symbol[leg]
        if s < 0:
            risk[leg] = np.nan
            continue
        quarantined[leg] = legs.suspect[leg]
        age = legs.age_hours[leg]
        if age < legs.quote_age[leg]:
            age = legs.quote_age[leg]
        if age <= fresh_hours and not legs.suspect[leg]:
            continue
        if math.isnan(age) or (legs.suspect[leg] and age < unknown_age_hours):
            age = max(unknown_age_hours, legs.quote_age[leg])
        size = abs(legs.notional[leg])
        hourly = volatility[s] if volatility[s] >= 0.0 else unknown_volatility
        move = hourly * confidence * math.sqrt(age)
        cost = size * move
        if not cost < size:  # a NaN, from 0 * inf, costs the whole position too
            cost = size
        if legs.gamma[leg] != 0.0:
            if not move < 1.0:
                move = 1.0
            cost += 0.5 * abs(legs.gamma[leg]) * (move * move)
        risk[leg] = cost
    return risk, quarantined
