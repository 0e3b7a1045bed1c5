"""Backtest the add-on of a bundle on configured data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from market.core.clock import HOUR
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import decision_span, label_market, read_behaving, read_intervals
from pipelines.data.loaders import describe, describe_rules, read_label_rules, read_market
from pipelines.jobs.evaluate import overlap_warnings, seen_span
from pipelines.jobs.retrain import split_ends
from training.backtest.backtest import BacktestSettings, backtest


def backtest_bundle(config: Config, path: Path) -> dict[str, Any]:
    """The object of ``backtest --json``.

    The best simple estimate is chosen between fit_end and calibrate_end, and figures are of the
    time from there to test_end; without these the configured span is split 60, 20 and 20 per cent.
    Where the bundle has seen some of that time, ``warnings`` tells the overlap.
    """
    with Stages(3) as stages:
        with stages.stage("bundle"):
            forecaster = Forecaster(load_bundle(path))
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_label_rules(config, market)
            intervals = read_intervals(config, market, ruleset)
        with stages.stage("backtest"):
            ends = split_ends(config, *decision_span(config, market, intervals))
            settings = BacktestSettings(
                (ends[0], ends[1]), (ends[1], ends[2]), config.accounts.seed
            )
            behaving = read_behaving(config, market, ruleset, settings.test, settings.call_hours)
            report = backtest(
                label_market(config, market, intervals, ruleset),
                intervals,
                intervals if behaving is None else behaving,
                ruleset,
                forecaster,
                settings,
                stages.within,
            )
    seen = seen_span(forecaster.bundle.manifest["training"], real=market.real)
    overlap = max(0, min(ends[2], seen[1]) - max(ends[1], seen[0])) / HOUR
    return {
        "bundle": forecaster.bundle.sha256,
        "data": dict(describe(config, market)),
        "ruleset": describe_rules(ruleset),
        **report,
        "overlap_with_training_hours": overlap,
        "warnings": overlap_warnings(
            overlap, seen, "set [training] calibrate_end and test_end to a later span"
        ),
        "bars": market.history.report.to_dict(),
    }
