"""What each anti-procyclical option of the add-on costs in uncovered loss, and what it calms.

``python -m research.experiments.procyclicality_costs CONFIG --bundle PATH --json OUT`` walks the
accounts of the test span through the add-on with one option at a time, each at the average level
at which a flat level covers 95%, and prints the tables of
``docs/experiments/procyclicality-costs.md``. The state rule is also measured beside all of the rule
set's other options, where its cost is over the loss of the rule set without a state rule.
Cost: uncovered loss over that of the raw level G at the same average, with its paired 95% interval.
Gain: how much margin on fixed portfolios moves. An option that cannot come down to the average (a
high floor) is marked as unmatched: its loss is then that of a dearer level.
To choose an option on months before the test block, set the ends of ``[training]`` to these months
and give a bundle that was fitted before them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.state.snapshot import MarketSnapshot
from margin.rules.floors import EMIR_MEASURES
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.arrays import Floats, Ints
from market.core.clock import format_time
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.config.config import load_config
from pipelines.data.accounts import decision_span, label_market, read_intervals
from pipelines.data.loaders import Market, read_label_rules, read_market
from pipelines.jobs.retrain import split_ends
from research.pages.markdown import table as markdown_table
from training.backtest.account_hours import AccountHours, sample_account_hours
from training.backtest.backtest import BacktestSettings, calibrate
from training.backtest.paced_add_on import AddOnWalk, RuleBounds, rule_bounds
from training.backtest.policies import Policy, PolicySources, paced_policy
from training.backtest.reference_portfolios import (
    ReferencePortfolios,
    draw_portfolios,
    procyclicality_figures,
)
from training.backtest.uncovered_loss import (
    CHOICE_COVERAGE,
    block_of,
    flat_budget,
    match,
    ratio_interval,
    uncovered,
    with_known_levels,
)
from training.labels.account_panel import AccountPanel

Variants = dict[str, tuple[Policy, Policy]]
"""By name, a policy on the account-hours and the same on the portfolios."""

ACCOUNT_HOURS = 100_000
UNPACED: dict[str, Any] = {
    "dead_band": 0.0,
    "max_step_up_per_hour": 1e6,
    "release_half_life_h": 0.0,
    "state_rule": "none",
}
STRESS_RATIOS = (1.0, 1.25, 1.5, 2.0)
"""Volatility ratios above which releases are held."""

OPTIONS: dict[str, dict[str, Any]] = {
    "floor and cap alone": {},
    "dead band 5%": {"dead_band": 0.05},
    "dead band 20%": {"dead_band": 0.2},
    "step 0.5 IM an hour": {"max_step_up_per_hour": 0.5},
    "step 0.05 IM an hour": {"max_step_up_per_hour": 0.05},
    "release half-life 12 h": {"release_half_life_h": 12.0},
    "release half-life 48 h": {"release_half_life_h": 48.0},
    **{
        f"hold in stress above {limit:g}": {"state_rule": "hold_in_stress", "stress_ratio": limit}
        for limit in STRESS_RATIOS
    },
}


def main() -> None:
    """Print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--account-hours", type=int, default=ACCOUNT_HOURS)
    arguments = parser.parse_args()
    report = costs(arguments.config, arguments.bundle, arguments.account_hours)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(tables(report))


def costs(config_file: Path, bundle: Path, account_hours: int) -> dict[str, Any]:
    """Cost and gain of each option on the test span of a configuration, and the cost of the state
    rule beside all others of the rule set."""
    config, forecaster = load_config(config_file), Forecaster(load_bundle(bundle))
    market = read_market(config)
    ruleset = read_label_rules(config, market)
    intervals = read_intervals(config, market, ruleset)
    ends = split_ends(config, *decision_span(config, market, intervals))
    settings = BacktestSettings(ends[:2], ends[1:], config.accounts.seed, account_hours)
    path = label_market(config, market, intervals, ruleset)
    sources, best_simple, _ = calibrate(path, intervals, ruleset, forecaster, settings)
    hours = sample_account_hours(
        intervals,
        path,
        ruleset,
        settings.test,
        least_hours=account_hours,
        seed=settings.seed,
    )
    buffer, budget = flat_budget(hours, CHOICE_COVERAGE)
    counted = np.flatnonzero(hours.counted).astype(np.int64)
    sources = sources.searching(hours.times, counted, (budget, budget))
    raw = sources.raw_policy(hours.times)
    hours = with_known_levels(hours, {"raw": raw})
    portfolios = draw_portfolios(intervals, path, ruleset, settings.test, settings.seed)
    on_portfolios = sources.raw_policy(portfolios.times)
    simple = sources.simple_policies(hours.times)[best_simple]
    simple_portfolios = sources.simple_policies(portfolios.times)[best_simple]

    target = float(portfolios.share(buffer * portfolios.times.maintenance_margin).mean())
    of_hours = Options(sources, hours.times, hours.interval, raw)
    of_portfolios = Options(sources, portfolios.times, portfolios.times.owner(), on_portfolios)
    comparison = Comparison(hours, portfolios, budget, target)

    def under(variants: Iterator[tuple[str, RuleSet]]) -> Variants:
        return {
            name: (of_hours.policy(rules), of_portfolios.policy(rules)) for name, rules in variants
        }

    raw_and_simple: Variants = {
        "raw level G": (raw, on_portfolios),
        f"best simple ({best_simple})": (simple, simple_portfolios),
    }
    counted_rows = hours.times.rows.row[hours.counted]
    ratio = volatility_ratio(market, counted_rows)
    return {
        "span": [format_time(time) for time in settings.test],
        "account_hours": int(hours.counted.sum()),
        "accounts": len(hours.times.start) - 1,
        "portfolios": len(portfolios.loss),
        "average_add_on": budget,
        "in_stress": {f"{limit:g}": float((ratio > limit).mean()) for limit in STRESS_RATIOS},
        "options": comparison.rows(raw_and_simple | under(rule_variants(ruleset))),
        "state_rules": comparison.rows(under(state_rule_variants(ruleset))),
    }


def volatility_ratio(market: Market, rows: Ints) -> Floats:
    """The volatility ratio that the state rule reads, at market rows."""
    found, which = np.unique(rows, return_inverse=True)
    closes = market.features.closes[found].tolist()
    ratios = [
        MarketSnapshot.of_history(market.history, market.features, close).volatility_ratio()
        for close in closes
    ]
    return np.asarray(ratios, dtype=np.float64)[which]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Policies at one average level on account-hours, and at one on portfolios."""

    hours: AccountHours
    portfolios: ReferencePortfolios
    budget: float
    target: float

    def rows(self, variants: Variants) -> dict[str, Any]:
        """Figures of each policy by name; ratios are to the first."""
        fall, block = self.hours.share(self.hours.fall), block_of(self.hours)
        rows: dict[str, Any] = {}
        first: Floats | None = None
        for name, (policy, beside) in variants.items():
            found = match(self.hours, policy, self.budget)
            loss = uncovered(fall, found.share)
            first = loss if first is None else first
            ratio, interval = ratio_interval(loss, first, block)
            margin = match(self.portfolios, beside, self.target)
            rows[name] = {
                "uncovered": float(loss.mean()),
                "ratio": ratio,
                "ratio_ci95": None if interval is None else list(interval),
                "average_add_on": float(found.share.mean()),
                "matched": found.matched and margin.matched,
                **procyclicality_figures(self.portfolios, margin.levels),
            }
        return rows


@dataclass
class Options:
    """The whole add-on of one raw policy under changed rules; bounds are computed once each."""

    sources: PolicySources
    times: AccountPanel
    book: np.ndarray[Any, np.dtype[np.int64]]
    raw: Policy

    def __post_init__(self) -> None:
        self._bounds: dict[str, RuleBounds] = {}

    def policy(self, rules: RuleSet) -> Policy:
        """The add-on under these rules."""
        add_on = rules.add_on
        content = rules.content()
        key = json.dumps([content["floors"], add_on.state_rule, add_on.stress_ratio])
        if key not in self._bounds:
            history, market = self.sources.history, self.sources.market
            self._bounds[key] = rule_bounds(self.times, history, market, rules)
        closes = self.sources.history.bars.closes
        walk = AddOnWalk(self.times, self.book, closes, self._bounds[key], add_on)
        return paced_policy(walk, self.raw)


def rule_variants(base: RuleSet) -> Iterator[tuple[str, RuleSet]]:
    """The rule set with one option at a time, then as it is, then with each measure of EMIR."""
    for name, option in OPTIONS.items():
        content = base.content()
        content["add_on"] |= UNPACED | option
        yield name, ruleset_from_content(content)
    yield f"all of {base.name}", base
    for measure in EMIR_MEASURES:
        content = base.content()
        content["add_on"] |= UNPACED
        content["floors"].setdefault("coverage", {})
        content["floors"].setdefault(measure, {})["enabled"] = True
        yield f"floor: {measure}", ruleset_from_content(content)


def state_rule_variants(base: RuleSet) -> Iterator[tuple[str, RuleSet]]:
    """The rule set without a state rule, then with releases held above each volatility ratio."""
    content = base.content()
    content["add_on"] |= {"state_rule": "none"}
    yield f"{base.name} without a state rule", ruleset_from_content(content)
    for limit in STRESS_RATIOS:
        content = base.content()
        content["add_on"] |= {"state_rule": "hold_in_stress", "stress_ratio": limit}
        yield f"{base.name}, held above {limit:g}", ruleset_from_content(content)


def tables(report: Mapping[str, Any]) -> str:
    """The figures as two Markdown tables."""
    return f"{table(report['options'])}\n\n{table(report['state_rules'])}"


def table(rows: Mapping[str, Any]) -> str:
    """Figures of `Comparison.rows` as Markdown; loss is over that of the first row."""
    head = ["option", "average add-on", "uncovered loss", "peak to trough"]
    head += ["rise in 1 day", "5 days", "20 days", "after one extreme return"]
    lines = []
    for name, row in rows.items():
        low, high = row["ratio_ci95"] or (float("nan"),) * 2
        rises = [*row["n_day_max_increase"].values(), row["response_to_one_extreme_return"]]
        lines.append(
            [
                name if row["matched"] else f"{name} (unmatched)",
                f"{row['average_add_on']:.2%}",
                f"{row['ratio']:.3f} [{low:.3f}, {high:.3f}]",
                f"{row['peak_to_trough']:.2f}",
                *("-" if rise is None else f"{rise:.0%}" for rise in rises),
            ]
        )
    return markdown_table(head, lines)


if __name__ == "__main__":
    main()
