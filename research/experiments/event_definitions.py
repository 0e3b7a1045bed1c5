"""Base rates and skill of every event and kind of path, side by side.

``python -m research.experiments.event_definitions CONFIG --json OUT`` builds one data set for each
event (`training.labels.events`) and each kind of path (closes, finest closes, bar extremes), fits a
candidate on its fit and calibrate blocks and evaluates it on the test block. With ``[market]
funding``, closes also count with funding along the paths. What a rule set or engine does not define
is named with the reason. `ROWS` bounds each data set, so figures differ from those of a training.

``OUT`` is written after each definition, and a run that was interrupted continues with those that
it lacks; a change of the configuration, of the rows or of the code starts anew. The figures of the
documentation are in ``docs/experiments/event-definitions.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from margin.engines.equity_paths import Extremes
from margin.rules.ruleset import RuleSet
from market.core.errors import MargincastError
from market.core.files import replace_file
from pipelines.config.config import Config, load_config
from pipelines.data.accounts import (
    dataset_options,
    decision_span,
    label_market,
    read_intervals,
)
from pipelines.data.loaders import Market, describe, read_label_rules, read_market
from pipelines.data.provenance import source_sha256
from pipelines.jobs.retrain import split_ends
from research.pages.markdown import table as markdown_table
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
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report = compare(load_config(arguments.config), arguments.rows, arguments.json)
    print(table(report["definitions"]))


def compare(config: Config, rows: int, out: Path) -> dict[str, Any]:
    """The object of ``--json``: figures of each definition that the rule set and engine have."""
    identity = f"{config.sha256()} {rows} {source_sha256()}"
    report: dict[str, Any] = {"identity": identity, "rows": rows, "definitions": []}
    if out.exists() and (kept := json.loads(out.read_bytes()))["identity"] == identity:
        report = kept
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
    known = {_key(case) for case in report["definitions"]}
    for options in definitions(base, funding=config.market.funding is not None):
        case: dict[str, Any] = {
            "event": options.event,
            "extremes": options.extremes,
            "funding": options.funding,
        }
        if _key(case) in known:
            continue
        try:
            case["level"] = event_level(options.event, ruleset)
            case |= evaluated(config, market, (intervals, ruleset), options, ends)
        except MargincastError as error:
            case["not_evaluated"] = str(error)
        report["definitions"].append(case)
        replace_file(out, json.dumps(report, indent=1).encode() + b"\n")
    return report


def _key(case: Mapping[str, Any]) -> tuple[str, str, bool]:
    return case["event"], case["extremes"], case["funding"]


def definitions(base: DatasetOptions, *, funding: bool) -> Iterator[DatasetOptions]:
    """Along each kind of path every event, and then closes with funding where there are rates."""
    for extremes in EXTREMES:
        for event in EVENTS:
            yield replace(base, event=event, extremes=extremes, funding=False)
    for event in EVENTS if funding else ():
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


def table(definitions: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with a row for each definition and horizon."""
    head = ["event", "level", "path", "funding", "horizon", "events", "base rate"]
    head += ["skill", "95% interval", "predicted / observed"]
    lines = []
    for case in sorted(definitions, key=lambda case: EVENTS.index(case["event"])):
        level = f"{case['level']:g}" if "level" in case else "none"
        first = [case["event"], level, case["extremes"], "yes" if case["funding"] else "no"]
        if "not_evaluated" in case:
            lines.append([*first, f"not evaluated: {case['not_evaluated']}", *[""] * 5])
            continue
        for hours, figure in case["horizons"].items():
            low, high = figure["log_loss_skill_ci95"] or (float("nan"), float("nan"))
            ratio = figure["predicted_over_observed"]
            lines.append(
                [
                    *first,
                    f"{hours} h",
                    f"{figure['positives']:,}",
                    f"{figure['base_rate']:.3%}",
                    f"{figure['log_loss_skill']:.1%}",
                    f"{low:.1%} to {high:.1%}",
                    "-" if ratio is None else f"{ratio:.2f}",
                ]
            )
    return markdown_table(head, lines)


if __name__ == "__main__":
    main()
