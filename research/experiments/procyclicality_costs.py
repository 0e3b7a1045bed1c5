"""What each anti-procyclical option of the add-on costs in uncovered loss, and what it calms.

``python -m research.experiments.procyclicality_costs CONFIG --bundle PATH --json OUT`` walks the
accounts of the test span through the add-on with one option at a time, each at the average level
at which a flat level covers 95%, and prints the table of ``docs/experiments/procyclicality.md``.
Cost: uncovered loss over that of the raw level G at the same average, with its paired 95% interval.
Gain: how much margin on fixed portfolios moves. An option that cannot come down to the average (a
high floor) is marked as unmatched: its loss is then that of a dearer level.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from margin.rules.floors import EMIR_MEASURES
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.clock import HOUR
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.config.config import load_config
from pipelines.data.accounts import label_market, read_intervals
from pipelines.data.loaders import read_label_rules, read_market
from pipelines.jobs.retrain import split_ends
from training.backtest.account_hours import sample_account_hours
from training.backtest.backtest import BacktestSettings, calibrate
from training.backtest.paced_add_on import AddOnWalk, RuleBounds, rule_bounds
from training.backtest.policies import Policy, PolicySources, paced_policy
from training.backtest.reference_portfolios import draw_portfolios, procyclicality_figures
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

ACCOUNT_HOURS = 100_000
UNPACED: dict[str, Any] = {
    "dead_band": 0.0,
    "max_step_up_per_hour": 1e6,
    "release_half_life_h": 0.0,
    "state_rule": "none",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "floor and cap alone": {},
    "dead band 5%": {"dead_band": 0.05},
    "dead band 20%": {"dead_band": 0.2},
    "step 0.5 IM an hour": {"max_step_up_per_hour": 0.5},
    "step 0.05 IM an hour": {"max_step_up_per_hour": 0.05},
    "release half-life 12 h": {"release_half_life_h": 12.0},
    "release half-life 48 h": {"release_half_life_h": 48.0},
    "hold in stress above 1.5": {"state_rule": "hold_in_stress", "stress_ratio": 1.5},
    "hold in stress above 2": {"state_rule": "hold_in_stress", "stress_ratio": 2.0},
}


def main() -> None:
    """Print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = costs(arguments.config, arguments.bundle)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print("\n".join(table(report)))


def costs(config_file: Path, bundle: Path) -> dict[str, Any]:
    """Cost and gain of each option on the test span of a configuration."""
    config = load_config(config_file)
    market = read_market(config)
    ruleset = read_label_rules(config, market)
    intervals = read_intervals(config, market, ruleset)
    bars = market.history.bars
    first = max(int(bars.closes[intervals.first_row.min()]), config.market.start_ns or 0)
    last = min(int(bars.closes[-1]), config.market.end_ns or int(bars.closes[-1]))
    ends = split_ends(config, first, last - config.training.horizons[-1] * HOUR)
    settings = BacktestSettings(ends[:2], ends[1:], config.accounts.seed, ACCOUNT_HOURS)
    path = label_market(config, market, intervals, ruleset)
    forecaster = Forecaster(load_bundle(bundle))
    sources, best_simple, _ = calibrate(path, intervals, ruleset, forecaster, settings)
    hours = sample_account_hours(
        intervals,
        path,
        ruleset,
        settings.test,
        least_hours=ACCOUNT_HOURS,
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

    fall, block = hours.share(hours.fall), block_of(hours)
    unpaced = uncovered(fall, match(hours, raw, budget).share)
    target = float(portfolios.share(buffer * portfolios.times.maintenance_margin).mean())
    variants: dict[str, tuple[Policy, Policy]] = {
        "raw level G": (raw, on_portfolios),
        f"best simple ({best_simple})": (simple, simple_portfolios),
    }
    of_hours = Options(sources, hours.times, hours.interval, raw)
    of_portfolios = Options(sources, portfolios.times, portfolios.times.owner(), on_portfolios)
    for name, rules in rule_variants(ruleset):
        variants[name] = of_hours.policy(rules), of_portfolios.policy(rules)
    rows: dict[str, Any] = {}
    for name, (policy, beside) in variants.items():
        found = match(hours, policy, budget)
        loss = uncovered(fall, found.share)
        ratio, interval = ratio_interval(loss, unpaced, block)
        rows[name] = {
            "uncovered": float(loss.mean()),
            "ratio_to_raw": ratio,
            "ratio_to_raw_ci95": None if interval is None else list(interval),
            "average_add_on": float(found.share.mean()),
            "matched": found.matched,
            **procyclicality_figures(portfolios, match(portfolios, beside, target).levels),
        }
    return {"account_hours": int(hours.counted.sum()), "average_add_on": budget, "options": rows}


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


def table(report: Mapping[str, Any]) -> list[str]:
    """The figures as Markdown."""
    lines = [
        "| option | average add-on | uncovered loss to raw | peak to trough | rise in 1 day "
        "| 5 days | 20 days | after one extreme return |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["options"].items():
        low, high = row["ratio_to_raw_ci95"] or (float("nan"),) * 2
        rises = [*row["n_day_max_increase"].values(), row["response_to_one_extreme_return"]]
        cells = " | ".join("-" if rise is None else f"{rise:.0%}" for rise in rises)
        mark = "" if row["matched"] else " (unmatched)"
        lines.append(
            f"| {name}{mark} | {row['average_add_on']:.2%} | {row['ratio_to_raw']:.2f} "
            f"[{low:.2f}, {high:.2f}] | {row['peak_to_trough']:.2f} | {cells} |"
        )
    return lines


if __name__ == "__main__":
    main()
