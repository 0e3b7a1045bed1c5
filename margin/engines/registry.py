"""The engines by name: one interface, so that what builds on a margin does not know whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from margin.book.portfolio_batch import Portfolios
from margin.engines.equity_paths import BookPaths, MarketPath
from margin.engines.historical.engine import simulation_margins, simulation_parts, worst_periods
from margin.engines.margins import Margins, Part, RankedScenario
from margin.engines.scenario.engine import (
    parts_and_worst,
    scenario_margins,
    scenario_parts,
    worst_scenarios,
)
from margin.engines.standard.engine import standard_margins
from margin.engines.standard.parts import standard_parts
from margin.engines.tier.engine import tier_margins, tier_parts
from margin.engines.tier.paths import tier_paths
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from market.core.errors import RuleSetError

_QUIET = np.errstate(over="ignore", invalid="ignore")
"""Whoever reads a figure checks it: what leaves float64 is a problem of its account."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How the rule sets of one engine are computed.

    Attributes
    ----------
    margins:
        Margins of N portfolios.
    parts:
        The parts of one of them, by its index: they add up to its net margins.
    worst_scenarios:
        So many of the worst scenarios of one of them; None where the engine has no scenarios.
    both:
        Parts and worst scenarios in one go; None where that saves nothing.
    options:
        Whether it margins options.
    book_paths:
        Books along a market path in a way of its own, faster than `margin.book.book_paths` row by
        row; None, and an answer of None, where it has none.
    """

    margins: Callable[[Portfolios, RuleSet], Margins]
    parts: Callable[[Portfolios, int, RuleSet], tuple[Part, ...]]
    worst_scenarios: (
        Callable[[Portfolios, int, RuleSet, int], tuple[RankedScenario, ...]] | None
    ) = None
    both: (
        Callable[
            [Portfolios, int, RuleSet, int], tuple[tuple[Part, ...], tuple[RankedScenario, ...]]
        ]
        | None
    ) = None
    options: bool = True
    book_paths: Callable[[Book, MarketPath, RuleSet], BookPaths | None] | None = None

    @_QUIET
    def explained(
        self, portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
    ) -> tuple[tuple[Part, ...], tuple[RankedScenario, ...]]:
        """The parts of one of N portfolios and its worst scenarios, none where there are none."""
        if self.both is not None:
            return self.both(portfolios, account, ruleset, count)
        worst = self.worst_scenarios
        return (
            self.parts(portfolios, account, ruleset),
            () if worst is None else worst(portfolios, account, ruleset, count),
        )


ENGINES: Mapping[str, Engine] = {
    "standard": Engine(standard_margins, standard_parts),
    "tier": Engine(tier_margins, tier_parts, options=False, book_paths=tier_paths),
    "simulation": Engine(simulation_margins, simulation_parts, worst_periods),
    "scenario": Engine(scenario_margins, scenario_parts, worst_scenarios, parts_and_worst),
}
"""By the table that they read, see `RuleSet.method`."""


@_QUIET
def compute_margins(portfolios: Portfolios, ruleset: RuleSet) -> Margins:
    """Margins of N portfolios under a rule set, by its engine.

    Figures of a portfolio that leave float64 are infinite or NaN, those of others are not touched.
    """
    return engine_of(ruleset).margins(portfolios, ruleset)


def engine_of(ruleset: RuleSet) -> Engine:
    """The engine of a rule set."""
    engine = ENGINES.get(ruleset.method)
    if engine is None:
        raise RuleSetError(f"rule set {ruleset.name!r} has engine {ruleset.engine!r}; not known")
    return engine
