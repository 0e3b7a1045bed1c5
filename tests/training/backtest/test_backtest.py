"""The backtest on a small simulated market, with a model of the structural prior alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from market.core.clock import DAY
from market.core.errors import DataError, ModelError
from models.forecaster import Forecaster
from tests.training.backtest.conftest import LEAST_HOURS, World, make_forecaster
from training.backtest.backtest import FRONTIER_COVERAGES, BacktestSettings, backtest
from training.backtest.policies import FORECAST, SIMPLE_ESTIMATORS, is_simple

SIGMAS = {f"sigma_{name}" for name in SIMPLE_ESTIMATORS}
POLICIES = SIGMAS | {
    "margincast",
    "margincast_with_hysteresis",
    "margincast_with_hysteresis_uncapped",
    "flat",
    "emir_buffer",
    "volatility_oracle",
}
UNCOVERED = {
    "uncovered",
    "breach_rate",
    "ratio_to_flat",
    "ratio_to_flat_ci95",
    "ratio_to_best_simple",
    "ratio_to_best_simple_ci95",
}
CALLERS = {
    "margincast",
    "margincast_with_hysteresis",
    "none",
    "flat",
    "best_simple",
    "volatility_oracle",
}
CALLS = {
    "calls",
    "needed",
    "in_vain",
    "prevented_breaches",
    "missed_breaches",
    "collected",
    "median_lead_hours",
    "flips_per_account_day",
}


def test_report_has_every_figure_and_is_plain_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["account_hours"] >= LEAST_HOURS
    assert report["uncovered"]["horizon_hours"] == 24
    assert [b["flat_coverage"] for b in report["uncovered"]["budgets"]] == [0.9, 0.95, 0.99]
    for budget in report["uncovered"]["budgets"]:
        assert set(budget["policies"]) - {FORECAST} == POLICIES
        for figures in budget["policies"].values():
            assert figures.keys() >= UNCOVERED
    assert report["calls"]["policies"].keys() == CALLERS
    for figures in report["calls"]["policies"].values():
        assert figures.keys() >= CALLS
    for figures in report["procyclicality"]["policies"].values():
        assert figures["n_day_max_increase"].keys() == {"1", "5", "20"}
        assert figures["n_day_max_increase"]["20"] is None  # 13 days only
        assert figures.keys() >= {"peak_to_trough", "response_to_one_extreme_return"}
    for figures in report["coverage"]["policies"].values():
        assert figures.keys() >= {
            "coverage",
            "kupiec_p",
            "christoffersen_p",
            "share_not_rejected",
        }
    for table in (
        report["procyclicality"]["policies"],
        report["coverage"]["policies"],
        report["frontier"],
    ):
        assert set(table) - {FORECAST} == POLICIES


def test_policies_ask_for_the_same_average_level_at_each_budget(report: dict[str, Any]) -> None:
    for budget in report["uncovered"]["budgets"]:
        for name, figures in budget["policies"].items():
            if figures["matched"]:
                average = figures["average_add_on"]
                assert average == pytest.approx(budget["average_add_on"], rel=1e-3), name
            else:
                assert name.startswith("margincast_with_hysteresis")
        assert budget["policies"]["flat"]["ratio_to_flat"] == 1.0
        assert budget["policies"]["flat"]["ratio_to_flat_ci95"] == [1.0, 1.0]
        best = budget["policies"][report["uncovered"]["best_simple"]]
        assert best["ratio_to_best_simple"] == 1.0


def test_flat_leaves_the_share_of_its_budget_uncovered(report: dict[str, Any]) -> None:
    for budget in report["uncovered"]["budgets"]:
        breached = budget["policies"]["flat"]["breach_rate"]
        assert breached == pytest.approx(1.0 - budget["flat_coverage"], abs=0.01)


def test_foresight_leaves_less_uncovered_than_any_policy(report: dict[str, Any]) -> None:
    for budget in report["uncovered"]["budgets"]:
        losses = {name: figures["uncovered"] for name, figures in budget["policies"].items()}
        assert min(losses, key=lambda name: losses[name]) == "volatility_oracle"


def test_best_simple_is_one_of_the_estimates(report: dict[str, Any]) -> None:
    assert report["uncovered"]["best_simple"] in SIGMAS
    assert not is_simple(FORECAST)


def test_more_level_leaves_less_uncovered(report: dict[str, Any]) -> None:
    for name, points in report["frontier"].items():
        assert len(points) <= len(FRONTIER_COVERAGES)
        if not name.startswith("margincast_with_hysteresis"):
            losses = [loss for _, loss in points]
            assert losses == sorted(losses, reverse=True), name


def test_nobody_is_called_without_a_policy(report: dict[str, Any]) -> None:
    none = report["calls"]["policies"]["none"]
    assert (none["calls"], none["prevented_breaches"], none["collected"]) == (0, 0, 0.0)
    assert none["median_lead_hours"] is None
    for figures in report["calls"]["policies"].values():
        assert figures["calls"] == figures["needed"] + figures["in_vain"]
        assert figures["prevented_breaches"] + figures["missed_breaches"] == none["missed_breaches"]


def test_report_is_the_same_twice(
    world: World, forecaster: Forecaster, report: dict[str, Any]
) -> None:
    progress: list[float] = []
    again = backtest(
        world.label_market,
        world.intervals,
        world.intervals,
        world.ruleset,
        forecaster,
        world.settings,
        progress.append,
    )
    assert again == report
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_digest_names_the_account_hours(
    world: World, forecaster: Forecaster, report: dict[str, Any]
) -> None:
    other = replace(world.settings, test=(world.test[0] + DAY, world.test[1]))
    digests = {report["data_sha256"], run(world, forecaster, other)["data_sha256"]}
    assert len(digests) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def run(world: World, forecaster: Forecaster, settings: BacktestSettings) -> dict[str, Any]:
    return backtest(
        world.label_market,
        world.intervals,
        world.intervals,
        world.ruleset,
        forecaster,
        settings,
    )


def test_spans_that_overlap_are_refused(world: World, forecaster: Forecaster) -> None:
    late = (world.calibrate[0], world.test[0] + 1)
    with pytest.raises(DataError, match="calibration ends"):
        run(world, forecaster, replace(world.settings, calibrate=late))


def test_a_span_without_hours_is_refused(world: World, forecaster: Forecaster) -> None:
    empty = (world.test[1], world.test[1] + 1)
    with pytest.raises(DataError, match="no account-hour between"):
        run(world, forecaster, replace(world.settings, test=empty))


def test_targeted_horizon_that_the_model_lacks_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="24"):
        run(world, make_forecaster(tmp_path, (1, 8)), world.settings)
