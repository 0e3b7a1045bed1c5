"""Correlation floor: offsets between underlyings are capped, and shrink when correlations part."""

from __future__ import annotations

from margin.book.account_requirement import Requirement
from margin.floors.coverage import Coverage, coverage, current_volatility
from margin.floors.term import FloorTerm, beyond_maintenance, less_maintenance
from margin.rules.floors import FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


def correlation_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Level that lifts the margin to the current demand with capped offsets.

    ``max(0, demand(current volatility) - maintenance margin)``, where the demand keeps at least
    ``1 - offset_cap`` of the difference between the underlyings on their own and together, and a
    pair offsets less the further its fast and slow correlation are apart, nothing from
    `full_divergence` on. See `margin.floors.coverage`; shapes, NaN policy and errors as in
    `margin.floors.registry.Floor`.

    A pair with either correlation unknown offsets nothing; an unknown volatility is
    `unknown_volatility` of the coverage. Tables: ``correlation``, ``coverage``.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Article 27(2) and (4).
    """
    return beyond_maintenance(requirement, _capped(requirement, view, rules).demand)


def explain_correlation(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `correlation_floor`."""
    capped = _capped(requirement, view, rules)
    return (*capped.terms(), *less_maintenance(requirement, capped.demand))


def _capped(requirement: Requirement, view: MarketView, rules: FloorRules) -> Coverage:
    table_of(rules.correlation, "correlation")
    cover = table_of(rules.coverage, "coverage")
    return coverage(requirement, current_volatility(view, cover), view, rules)
