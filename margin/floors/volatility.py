"""Volatility floor: no less margin than the volatility of the long run demands."""

from __future__ import annotations

from margin.book.requirement import Requirement
from margin.floors.coverage import Coverage, coverage, lookback_volatility
from margin.floors.term import FloorTerm, beyond_maintenance, less_maintenance
from margin.rules.floors import FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


def volatility_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Level that lifts the margin to what the long volatility demands.

    ``max(0, demand(long volatility) - maintenance margin)``, see `margin.floors.coverage`: the
    margin does not melt in a calm market, so it need not leap when the calm ends.

    Where the long volatility is not known, or its history is shorter than the declared look-back,
    it is at least `unknown_long_volatility` (hourly).

    Parameters
    ----------
    requirement:
        Its resolved positions and maintenance margins.
    view:
        Long volatility, length of history and correlations.
    rules:
        ``rules.volatility``, ``rules.coverage`` and ``rules.correlation``.

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
    Commission Delegated Regulation (EU) No 153/2013, Article 28(1)(c).
    """
    return beyond_maintenance(requirement, _long_coverage(requirement, view, rules).demand)


def explain_volatility(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `volatility_floor`; same parameters, NaN policy and errors."""
    found = _long_coverage(requirement, view, rules)
    return (*found.terms(), *less_maintenance(requirement, found.demand))


def _long_coverage(requirement: Requirement, view: MarketView, rules: FloorRules) -> Coverage:
    stand_in = table_of(rules.volatility, "volatility").unknown_long_volatility
    cover = table_of(rules.coverage, "coverage")
    volatility = lookback_volatility(view.long_volatility, view, cover, stand_in)
    return coverage(requirement, volatility, view, rules)
