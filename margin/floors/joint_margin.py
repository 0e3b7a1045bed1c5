"""The margin that rules and market ask for together, on which other floors build."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.account_figures import AccountFigures
from margin.floors.coverage import Coverage, coverage, current_volatility
from margin.floors.term import FloorTerm
from margin.rules.floors import FloorRules, table_of
from margin.valuation.view import MarketView

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JointMargin:
    """``max(maintenance margin, demand(volatility))`` of N accounts.

    Attributes
    ----------
    coverage:
        The demand and its parts.
    margin:
        Settlement currency, shape (N,); NaN for an account without figures.
    """

    coverage: Coverage
    margin: Floats

    def terms(self) -> tuple[FloorTerm, ...]:
        """The margin in parts."""
        return (
            *self.coverage.terms(),
            FloorTerm(
                "rules_ask_more",
                "the rules ask for more than the volatility",
                "account",
                self.margin - self.coverage.demand,
            ),
        )


def current_margin(requirement: AccountFigures, view: MarketView, rules: FloorRules) -> JointMargin:
    """The margin at the newest volatility, see `margin.floors.coverage`."""
    cover = table_of(rules.coverage, "coverage")
    return margin_at(current_volatility(view, cover), requirement, view, rules)


def margin_at(
    volatility: Floats, requirement: AccountFigures, view: MarketView, rules: FloorRules
) -> JointMargin:
    """The margin at an hourly volatility, known everywhere, shape (S,)."""
    found = coverage(requirement, volatility, view, rules)
    return JointMargin(found, np.maximum(requirement.maintenance_margin, found.demand))
