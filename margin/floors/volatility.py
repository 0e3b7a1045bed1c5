"""Volatility floor: no less margin than the volatility of the long run demands."""

from __future__ import annotations

from margin.book.account_requirement import Requirement
from margin.floors.coverage import Coverage, coverage, lookback_volatility
from margin.floors.term import FloorTerm, beyond_maintenance, less_maintenance
from margin.rules.floors import FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


def volatility_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Level that lifts the margin to what the long volatility demands.

    ``max(0, demand(long volatility) - maintenance margin)``, see `margin.floors.coverage`: the
    margin does not melt in a calm market, so it need not leap when the calm ends. Shapes, NaN
    policy and errors as in `margin.floors.registry.Floor`.

    Where the long volatility is not known, or its history is shorter than the declared look-back,
    it is at least `unknown_long_volatility` (hourly). Tables: ``volatility``, ``coverage``,
    ``correlation``.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Article 28(1)(c).
    """
    return beyond_maintenance(requirement, _long_coverage(requirement, view, rules).demand)


def explain_volatility(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `volatility_floor`."""
    long = _long_coverage(requirement, view, rules)
    return (*long.terms(), *less_maintenance(requirement, long.demand))


def _long_coverage(requirement: Requirement, view: MarketView, rules: FloorRules) -> Coverage:
    stand_in = table_of(rules.volatility, "volatility").unknown_long_volatility
    cover = table_of(rules.coverage, "coverage")
    volatility = lookback_volatility(view.long_volatility, view, cover, stand_in)
    return coverage(requirement, volatility, view, rules)
