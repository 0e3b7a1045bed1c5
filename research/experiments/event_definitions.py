"""Base rates and skill of every event and kind of path, side by side.

``python -m research.experiments.event_definitions CONFIG --json OUT`` builds one data set for each
event (`training.labels.events`) and each kind of path (closes, finest closes, bar extremes), fits a
candidate on its fit and calibrate blocks and evaluates it on the test block. With ``[market]
funding``, closes also count with funding along the paths. What a rule set or engine does not define
is named with the reason. `ROWS` bounds each data set, so figures differ from those of a training.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from margin.engines.equity_paths import Extremes
from margin.rules.ruleset import RuleSet
from market.core.errors import MargincastError
from pipelines.config.config import Config, load_config
from pipelines.data.accounts import (
    dataset_options,
    decision_span,
    label_market,
    read_intervals,
)
from pipelines.data.loaders import Market, describe, read_label_rules, read_market
from pipelines.jobs.retrain import split_ends
from training.evaluation.evaluate import evaluate
from training.fitting.candidate import fit_candidate
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import DatasetOptions, build_dataset
from training.labels.events import EVENTS, event_level
from training.labels.splits import Block, purged_split

ROWS = 150_000
EXTREMES: tuple[Extremes, ...] = ("close", "finest", "bound")


def main() -> None:
    """Print one table, and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    figures = compare(load_config(arguments.config), arguments.rows)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(figures)))


def compare(config: Config, rows: int) -> list[dict[str, Any]]:
    """Figures of each definition that the rule set and the engine have."""
    market = read_market(config)
    ruleset = read_label_rules(config, market)
    intervals = read_intervals(config, market, ruleset)
    ends = split_ends(config, *decision_span(config, market, intervals))
    base = replace(
        dataset_options(config, config.market.start_ns),
        max_rows=rows,
        samples="training",
        test_start=ends[1],
    )
    found: list[dict[str, Any]] = []
    for options in definitions(base, funding=config.market.funding is not None):
        case: dict[str, Any] = {
            "event": options.event,
            "extremes": options.extremes,
            "funding": options.funding,
        }
        try:
            case["level"] = event_level(options.event, ruleset)
            case |= evaluated(config, market, (intervals, ruleset), options, ends)
        except MargincastError as error:
            case["not_evaluated"] = str(error)
        found.append(case)
    return found


def definitions(base: DatasetOptions, *, funding: bool) -> Iterator[DatasetOptions]:
    """Every event along every kind of path, and the closes with funding where there are rates."""
    for event in EVENTS:
        for extremes in EXTREMES:
            yield replace(base, event=event, extremes=extremes, funding=False)
        if funding:
            yield replace(base, event=event, extremes="close", funding=True)


def evaluated(
    config: Config,
    market: Market,
    books: tuple[BookIntervals, RuleSet],
    options: DatasetOptions,
    ends: tuple[int, int, int],
) -> dict[str, Any]:
    """Rows, and by horizon base rate, positives, best baseline, skill with interval, and predicted
    over observed, of a candidate on the test block."""
    intervals, ruleset = books
    data = build_dataset(
        label_market(config, market, intervals, ruleset), intervals, ruleset, options
    )
    block = data.learning_block(purged_split(data.time, data.horizons[-1], *ends))
    fit = np.flatnonzero(block == Block.FIT)
    candidate = fit_candidate(data, block)
    test = data.take(np.flatnonzero(block == Block.TEST))
    training = {
        "span_ns": [int(data.time[fit[0]]), int(data.time[fit[-1]])],
        "base_rates": {str(hours): data.base_rate(fit, hours) for hours in data.horizons},
    }
    report = evaluate(
        test,
        candidate.forecast(test),
        training,
        describe(config, market),
        market.history.bars.symbols,
    )
    keys = (
        "base_rate",
        "positives",
        "best_baseline",
        "log_loss_skill",
        "log_loss_skill_ci95",
        "predicted_over_observed",
    )
    return {
        "rows": {"fit": len(fit), "test": len(test)},
        "dropped": dict(data.dropped),
        "horizons": {
            hours: {key: horizon[key] for key in keys}
            for hours, horizon in report["horizons"].items()
        },
    }


def table(figures: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, one for each definition and horizon."""
    lines = [
        "| event | level | path | funding | horizon | base rate | skill | interval |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in figures:
        head = f"| {case['event']} | {case.get('level', 'none')} | {case['extremes']} "
        head += f"| {'yes' if case['funding'] else 'no'} "
        if "not_evaluated" in case:
            lines.append(f"{head}| not evaluated: {case['not_evaluated']} | | | |")
            continue
        for hours, figure in case["horizons"].items():
            low, high = figure["log_loss_skill_ci95"] or (float("nan"), float("nan"))
            lines.append(
                f"{head}| {hours} h | {figure['base_rate']:.3%} | {figure['log_loss_skill']:.1%} "
                f"| {low:.1%} to {high:.1%} |"
            )
    return lines


if __name__ == "__main__":
    main()
