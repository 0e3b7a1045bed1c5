"""Choose p* by the economic rule, and write it into a rule set with its reasoning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.clock import format_time
from market.core.errors import RuleSetError
from market.core.files import replace_file
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import decision_span, label_market, read_behaving, read_intervals
from pipelines.data.loaders import Market, describe, describe_rules, read_market, read_rules
from pipelines.jobs.retrain import split_ends
from pipelines.rulesets.rulesets_import import ruleset_toml
from training.backtest.account_hours import AccountHours, sample_account_hours
from training.backtest.backtest import BacktestSettings, check_inputs
from training.backtest.p_star_choice import (
    PolicyCosts,
    PStarChoice,
    choose_factor,
    cost_table,
    sensitivity,
)
from training.backtest.p_star_frontier import (
    FACTORS,
    PStarFrontier,
    frontier_table,
    sample_frontier,
)
from training.backtest.policies import PolicySources
from training.labels.book_intervals import BookIntervals

RULE = (
    "least cost of a year of an account: collateral x average add-on + call x calls + "
    "uncovered x uncovered loss of 365.25 windows of 24 h, shares of gross notional; one factor on "
    "every p*; the incumbent is kept unless the 95% interval of the difference lies below 0"
)

_SUFFIX = re.compile(r"(.*)-p([0-9]{1,6})")


def choose_policy(config: Config, path: Path, out: Path | None) -> dict[str, Any]:
    """The object of ``policy --json``; `out` is a rule set file to write, or None.

    p* is chosen on the accounts between fit_end and calibrate_end alone. The frontier between
    there and test_end is reported and plays no part.

    Raises
    ------
    DataError
        A span has no account-hour, or a book holds an option.
    ModelError
        The rule set targets a horizon that the model does not answer.
    RuleSetError
        `out` does not end in .toml, or every p* is 0.
    """
    if out is not None and out.suffix != ".toml":
        raise RuleSetError(f"--out {str(out)!r} does not end in .toml; give a file like rules.toml")
    costs = PolicyCosts(
        config.policy.collateral_cost, config.policy.call_cost, config.policy.uncovered_value
    )
    seed = config.accounts.seed
    with Stages(4) as stages:
        with stages.stage("bundle"):
            forecaster = Forecaster(load_bundle(path))
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_rules(config, market)
            _check_p_star(ruleset)
            intervals = read_intervals(config, market, ruleset)
            ends = split_ends(config, *decision_span(config, market, intervals))
            settings = BacktestSettings((ends[0], ends[1]), (ends[1], ends[2]), seed)
            check_inputs(intervals, settings)
        with stages.stage("calibration span"):
            chosen_on = _Sample(config, market, intervals, ruleset, settings.calibrate)
            frontier = chosen_on.frontier(forecaster)
        with stages.stage("test span"):
            tested_on = _Sample(config, market, intervals, ruleset, settings.test)
            tested = tested_on.frontier(forecaster)
    choice = choose_factor(frontier, costs, seed)
    report: dict[str, Any] = {
        "bundle": forecaster.bundle.sha256,
        "data": dict(describe(config, market)),
        "ruleset": describe_rules(ruleset),
        "costs": asdict(costs),
        "rule": RULE,
        "choice": {**asdict(choice), "p_star": scaled_p_star(ruleset, choice.factor)},
        "sensitivity": sensitivity(frontier, costs, seed),
        "calibration": _span_report(chosen_on, frontier, costs, seed),
        "test": _span_report(tested_on, tested, costs, seed),
        "bars": market.history.report.to_dict(),
    }
    if out is not None:
        written = write_policy(ruleset, report, choice, out)
        report["written"] = {"path": str(out), **describe_rules(written)}
    return report


def _check_p_star(ruleset: RuleSet) -> None:
    if not any(ruleset.add_on.targets.values()):
        raise RuleSetError(
            f"rule set {ruleset.name!r} tolerates a probability of 0 at every horizon, and any "
            "factor on it is 0 too; give an add_on.p_star above 0"
        )


class _Sample:
    """Accounts as their owners run them in a span."""

    def __init__(
        self,
        config: Config,
        market: Market,
        intervals: BookIntervals,
        ruleset: RuleSet,
        span: tuple[int, int],
    ) -> None:
        self._market, self._ruleset, self.span = market, ruleset, span
        least = config.policy.account_hours
        behaving = read_behaving(config, market, ruleset, span, least)
        books = intervals if behaving is None else behaving
        self.hours: AccountHours = sample_account_hours(
            books,
            label_market(config, market, books, ruleset),
            ruleset,
            span,
            least_hours=least,
            seed=config.accounts.seed,
        )

    def frontier(self, forecaster: Forecaster) -> PStarFrontier:
        """The frontier at the factors of the grid."""
        history, features = self._market.history, self._market.features
        sources = PolicySources(
            history, features, self._ruleset, forecaster, np.inf, np.array(FACTORS)
        )
        policies = sources.policies(self.hours.times, self.hours.interval)
        return sample_frontier(self.hours, policies, FACTORS)


def _span_report(
    sample: _Sample, frontier: PStarFrontier, costs: PolicyCosts, seed: int
) -> dict[str, Any]:
    return {
        "span": [format_time(time) for time in sample.span],
        "data_sha256": sample.hours.sha256(),
        **frontier_table(frontier, seed),
        "cost": cost_table(frontier, costs, seed),
    }


def scaled_p_star(ruleset: RuleSet, factor: float) -> dict[str, float]:
    """Every p* times a factor, at most 1, to six digits; by horizon in hours."""
    if factor == 1.0:
        return dict(ruleset.add_on.p_star)
    return {
        hours: float(f"{min(1.0, factor * p):.6g}") for hours, p in ruleset.add_on.p_star.items()
    }


def raised_version(version: str) -> str:
    """The version after one whose p* was chosen: ``1`` becomes ``1-p1``, and that ``1-p2``."""
    found = _SUFFIX.fullmatch(version)
    return f"{version}-p1" if found is None else f"{found[1]}-p{int(found[2]) + 1}"


def write_policy(
    ruleset: RuleSet, report: Mapping[str, Any], choice: PStarChoice, out: Path
) -> RuleSet:
    """Write the rule set with the chosen p*, its version raised, and the reasoning."""
    span = report["calibration"]
    k = next(i for i, p in enumerate(span["points"]) if p["factor"] == choice.factor)
    point, cost = span["points"][k], span["cost"][k]
    reasoning = {
        "rule": RULE,
        "costs": report["costs"],
        "begin": span["span"][0],
        "end": span["span"][1],
        "account_hours": span["account_hours"],
        "accounts": span["accounts"],
        "incumbent": dict(ruleset.add_on.p_star),
        "factor": choice.factor,
        "cheapest": choice.cheapest,
        "cost_difference": choice.difference,
        "cost_difference_ci95": choice.interval or [],
        "chosen": {
            **{
                name: point[name]
                for name in (
                    *("average_add_on", "add_on_over_maintenance", "uncovered"),
                    *("calls_per_account_year", "prevented_breaches", "missed_breaches"),
                )
            },
            "cost": cost["total"],
        },
        "bundle_sha256": report["bundle"],
        "data_sha256": span["data_sha256"],
        "ruleset_sha256": ruleset.sha256,
    }
    content = ruleset.content()
    content["version"] = raised_version(ruleset.version)
    content["source"] = (
        f"{ruleset.source} p* by margincast policy from version {ruleset.version}, see "
        "[add_on.reasoning]."
    )
    p_star = scaled_p_star(ruleset, choice.factor)
    content["add_on"] = {**content["add_on"], "p_star": p_star, "reasoning": reasoning}
    written = ruleset_from_content(content, origin=str(out))
    replace_file(out, ruleset_toml(written).encode())
    return written
