"""Assess a bundle without fitting: evaluate its forecasts, backtest its add-on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from market.clock import HOUR
from models.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.accounts import read_dataset, read_segments
from pipelines.config import Config
from pipelines.inputs import describe, describe_rules, read_label_rules, read_market
from pipelines.progress import Stages
from pipelines.retrain import split_ends
from training.backtest import backtest
from training.evaluate import evaluate, forecast


def evaluate_bundle(config: Config, path: Path) -> dict[str, Any]:
    """The object of ``evaluate --json``: the bundle and its own baselines on configured data."""
    with Stages(4) as stages:
        with stages.stage("bundle"):
            bundle = load_bundle(path)
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_label_rules(config, market)
        with stages.stage("labels"):
            data = read_dataset(config, market, read_segments(config, market, ruleset), ruleset)
        with stages.stage("evaluate"):
            report = evaluate(
                data,
                forecast(bundle, data),
                bundle.manifest["training"],
                describe(config, market),
                market.history.bars.symbols,
            )
    return {
        "bundle": bundle.sha256,
        "ruleset": describe_rules(ruleset),
        **report,
        "bars": market.history.report.to_dict(),
    }


def backtest_bundle(config: Config, path: Path) -> dict[str, Any]:
    """The object of ``backtest --json``.

    Scalars are solved between fit_end and calibrate_end and tested from there to test_end; without
    these the configured span is split 60, 20 and 20 per cent.
    """
    with Stages(3) as stages:
        with stages.stage("bundle"):
            forecaster = Forecaster(load_bundle(path))
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_label_rules(config, market)
            segments = read_segments(config, market, ruleset)
        with stages.stage("backtest"):
            closes = market.history.bars.closes
            first = max(int(closes[segments.first_row.min()]), config.market.start_ns or 0)
            last = min(int(closes[-1]), config.market.end_ns or int(closes[-1]))
            ends = split_ends(config, first, last - config.training.horizons[-1] * HOUR)
            report = backtest(
                market.history,
                market.features,
                segments,
                ruleset,
                forecaster,
                calibrate=(ends[0], ends[1]),
                test=(ends[1], ends[2]),
                seed=config.accounts.seed,
                progress=stages.within,
            )
    return {
        "bundle": forecaster.bundle.sha256,
        "data": dict(describe(config, market)),
        "ruleset": describe_rules(ruleset),
        **report,
        "bars": market.history.report.to_dict(),
    }
