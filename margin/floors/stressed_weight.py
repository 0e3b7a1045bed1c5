"""Stressed weight: a fixed share of the margin comes from the worst times on record."""

from __future__ import annotations

import numpy as np

from margin.book.account_requirement import Requirement
from margin.floors.coverage import JointMargin, coverage, current_margin, lookback_volatility
from margin.floors.term import FloorTerm, beyond_maintenance, maintenance_term
from margin.rules.floors import FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


def stressed_weight_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Level that lifts the margin to the weighted mean of current and stressed margin.

    ``(1 - weight) * M + weight * max(M, demand(stressed volatility)) - maintenance margin``,
    where M is the current margin, see `margin.floors.coverage.JointMargin`, and the demand that of
    `margin.floors.coverage`. A market worse than any on record is its own stress. Shapes, NaN
    policy and errors as in `margin.floors.registry.Floor`.

    Where the stressed volatility is not known, or its history is shorter than the declared
    look-back, it is at least `unknown_stressed_volatility` (hourly). Tables: ``stressed_weight``,
    ``coverage``, ``correlation``.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Article 28(1)(b).
    """
    added, current = _parts(requirement, view, rules)
    return beyond_maintenance(requirement, current.margin + added)


def explain_stressed_weight(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `stressed_weight_floor`."""
    added, current = _parts(requirement, view, rules)
    return (
        *current.terms(),
        FloorTerm(
            "stressed_observations",
            "weight times what the stressed volatility demands beyond the current margin",
            "account",
            added,
        ),
        maintenance_term(requirement.maintenance_margin),
    )


def _parts(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[Floats, JointMargin]:
    """What the stressed observations add, and the current margin."""
    table = table_of(rules.stressed_weight, "stressed_weight")
    cover = table_of(rules.coverage, "coverage")
    current = current_margin(requirement, view, rules)
    volatility = lookback_volatility(
        view.stressed_volatility, view, cover, table.unknown_stressed_volatility
    )
    stressed = coverage(requirement, volatility, view, rules).demand
    return table.weight * np.maximum(0.0, stressed - current.margin), current
