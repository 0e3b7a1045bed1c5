"""Stressed weight: a fixed share of the margin comes from the worst times on record."""

from __future__ import annotations

import numpy as np

from margin.book.requirement import Requirement
from margin.floors.coverage import JointMargin, coverage, current_margin, lookback_volatility
from margin.floors.term import FloorTerm, beyond_maintenance
from margin.rules.floors import FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


def stressed_weight_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Level that lifts the margin to the weighted mean of current and stressed margin.

    ``(1 - weight) * M + weight * max(M, demand(stressed volatility)) - maintenance margin``,
    where M is the current margin, see `margin.floors.coverage`, and the demand is that of
    `margin.floors.coverage`. A market worse than any on record is its own stress.

    Where the stressed volatility is not known, or its history is shorter than the declared
    look-back, it is at least `unknown_stressed_volatility` (hourly).

    Parameters
    ----------
    requirement:
        Its resolved positions and maintenance margins.
    view:
        Volatility, stressed volatility, length of history and correlations.
    rules:
        ``rules.stressed_weight``, ``rules.coverage`` and ``rules.correlation``.

    Returns
    -------
    Settlement currency, shape (N,): finite and never negative; NaN for an account without
    figures.

    Raises
    ------
    RuleSetError
        The rule set lacks the table of this floor or of the coverage.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Article 28(1)(b).
    """
    added, current = _parts(requirement, view, rules)
    return beyond_maintenance(requirement, current.margin + added)


def explain_stressed_weight(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `stressed_weight_floor`; same parameters, NaN policy and errors."""
    added, current = _parts(requirement, view, rules)
    return (
        *current.terms(),
        FloorTerm(
            "stressed_observations",
            "weight times what the stressed volatility demands beyond the current margin",
            "account",
            added,
        ),
        FloorTerm(
            "maintenance_margin",
            "the rules ask for this already",
            "account",
            -requirement.maintenance_margin,
        ),
    )


def _parts(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[Floats, JointMargin]:
    """What the stressed observations add, current margin."""
    own = table_of(rules.stressed_weight, "stressed_weight")
    cover = table_of(rules.coverage, "coverage")
    current = current_margin(requirement, view, rules)
    volatility = lookback_volatility(
        view.stressed_volatility, view, cover, own.unknown_stressed_volatility
    )
    stressed = coverage(requirement, volatility, view, rules).demand
    return own.weight * np.maximum(0.0, stressed - current.margin), current
