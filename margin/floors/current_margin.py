"""The current margin: what rules and market ask now, on which the stress measures build."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.floor_rules import FloorRules, table_of
from margin.floors.coverage import Coverage, coverage, current_volatility
from margin.floors.term import FloorTerm
from margin.requirement import Requirement
from margin.view import MarketView

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurrentMargin:
    """``max(maintenance margin, demand(current volatility))`` of N accounts.

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
                "the rules ask for more than the current volatility",
                "account",
                self.margin - self.coverage.demand,
            ),
        )


def current_margin(requirement: Requirement, view: MarketView, rules: FloorRules) -> CurrentMargin:
    """The current margin under ``[floors.coverage]``, see `margin.floors.coverage`."""
    cover = table_of(rules.coverage, "coverage")
    found = coverage(requirement, current_volatility(view, cover), view, rules)
    return CurrentMargin(found, np.maximum(requirement.maintenance_margin, found.demand))
