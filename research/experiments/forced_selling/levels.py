"""The levels that are compared, each a multiple of a measure of the book."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.state.market_state import MarketFeatures
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import add_on_cap, bound_add_on, in_stress
from margin.rules.ruleset import AddOnRules, RuleSet, ruleset_from_content
from market.core.arrays import Floats
from market.core.errors import RuleSetError
from research.experiments.forced_selling.windows import HOURS, VenueBook, Window
from research.experiments.procyclicality_costs import UNPACED
from training.backtest.policies import Policy

NONE, FLAT, FIXED = "no add-on", "flat", "forecast of the first hour"
FORECAST = "volatility_forecast_24h"


@dataclass(frozen=True, slots=True)
class Plan:
    """A level: a multiple of a measure of the book, under the rules of an add-on.

    Attributes
    ----------
    measure:
        Market column of the volatility; `FLAT`: maintenance margin; `NONE`: nothing is asked for.
    rules:
        ``[add_on]``: cap, pacing and state rule.
    fixed:
        The share of notional that is asked at a window's first hour is asked throughout.
    """

    measure: str
    rules: AddOnRules
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """A rule set with one margin rate, which is what makes accounts of any size comparable."""

    ruleset: RuleSet
    maintenance_rate: float
    initial_rate: float

    @staticmethod
    def of(ruleset: RuleSet) -> Terms:
        """Raises `RuleSetError` where the margin is not one rate for all symbols and sizes."""
        tier = ruleset.content().get("tier", {})
        brackets = tier.get("brackets", [])
        if len(brackets) != 1 or tier.get("symbols"):
            raise RuleSetError(
                f"rule set {ruleset.name!r} has no single margin rate, which this study scales "
                "accounts by; choose one like linear-tiers"
            )
        return Terms(ruleset, brackets[0]["maintenance_rate"], brackets[0]["initial_rate"])

    def bounded(
        self, plan: Plan, raw: Floats, gross: Floats, previous: Floats, stress: bool
    ) -> Floats:
        """The level in force an hour after `previous`, without a floor."""
        initial = self.initial_rate * gross
        cap, one = add_on_cap(initial, plan.rules), np.ones(len(raw))
        return bound_add_on(raw, 0.0 * one, cap, previous, one, initial, stress, plan.rules).level


def make_plans(ruleset: RuleSet) -> dict[str, Plan]:
    """The levels compared, by name."""

    def rules(**changes: Any) -> AddOnRules:
        content = ruleset.content()
        content["add_on"] |= changes
        return ruleset_from_content(content).add_on

    at_once = rules(**UNPACED)
    hold = {"state_rule": "hold_in_stress", "stress_ratio": 1.5}
    return {
        NONE: Plan(NONE, at_once),
        FLAT: Plan(FLAT, at_once),
        "long-run volatility": Plan("long_volatility", at_once),
        "volatility of 12 h": Plan("ewma_volatility_12h", at_once),
        FIXED: Plan(FORECAST, at_once, fixed=True),
        "forecast": Plan(FORECAST, at_once),
        "forecast, paced": Plan(FORECAST, rules(state_rule="none")),
        "forecast, paced, held in stress": Plan(FORECAST, rules(**hold)),
    }


def measure(plan: Plan, notional: Floats, features: MarketFeatures, terms: Terms) -> Floats:
    """What a level is a multiple of, for books of signed notional (K, S): shape (K,)."""
    if plan.measure == NONE:
        return np.zeros(len(notional))
    if plan.measure == FLAT:
        return np.asarray(terms.maintenance_rate * np.abs(notional).sum(axis=1))
    held = np.abs(notional).sum(axis=0) > 0.0
    x = notional[:, held] * features.column(plan.measure)[0, held]
    variance = ((x @ features.correlation[0][np.ix_(held, held)]) * x).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def stressed(window: Window, features: MarketFeatures, hour: int, rules: AddOnRules) -> bool:
    """Whether the state rule holds levels."""
    suspect = np.zeros(len(window.held), dtype=np.bool_)
    close = int(features.closes[0])
    snapshot = MarketSnapshot(close, window.bars.interval, features, window.mark[hour], suspect)
    return in_stress(snapshot.volatility_ratio(), rules)


def solve_scalar(
    plan: Plan, weeks: list[tuple[Window, VenueBook]], terms: Terms, budget: float
) -> float:
    """The multiple at which the level in force is the budget on average over ordinary weeks.

    Every week counts alike; within one, accounts count by their notional.
    """
    if plan.measure == NONE:
        return 0.0
    raw, gross = ([np.empty((HOURS, len(book.cash))) for _, book in weeks] for _ in range(2))
    stress = np.zeros((len(weeks), HOURS), dtype=np.bool_)
    for w, (window, book) in enumerate(weeks):
        for t in range(HOURS):
            notional = book.quantity * window.mark[t]
            raw[w][t] = measure(plan, notional, window.observed[t], terms)
            gross[w][t] = np.abs(notional).sum(axis=1)
            stress[w, t] = stressed(window, window.observed[t], t, plan.rules)

    def in_force(scalar: float) -> Floats:
        average = np.empty(len(weeks))
        for w in range(len(weeks)):
            level, total = np.full(raw[w].shape[1], np.nan), 0.0
            for t in range(HOURS):
                stress_now = bool(stress[w, t])
                level = terms.bounded(plan, scalar * raw[w][t], gross[w][t], level, stress_now)
                total += float(level.sum() / gross[w][t].sum())
            average[w] = total / HOURS
        return average

    unit = np.mean([r.sum() / g.sum() for r, g in zip(raw, gross, strict=True)])
    near = budget / float(unit)
    policy = Policy(in_force, (0.2 * near, 5.0 * near))
    return policy.solve(lambda average: float(average.mean()), budget)
