"""Walk-forward by half-years at full size, pooled over account seeds.

    python -m research.experiments.walk_forward CONFIG --seeds 11,12,13 --json OUT

Before each block, the coefficients of the volatility forecast, the model and the baselines are
fitted to everything known until then, and evaluated on the block's uniform rows. One data set of
one seed and block is in memory at a time. The sums of each are kept in the folder ``OUT.parts`` as
soon as they are known, so that a run that was interrupted continues; a change of the configuration
or of the code starts anew.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from features.state.volatility_fit import fit_coefficients, under_coefficients
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time
from market.core.errors import ModelError
from market.core.files import replace_file
from pipelines.config.config import Config, load_config
from pipelines.data.accounts import dataset_options, label_market, read_intervals
from pipelines.data.loaders import Market, read_label_rules, read_market
from pipelines.data.provenance import source_sha256
from research.pages.markdown import table as markdown_table
from training.fitting.candidate import fit_candidate
from training.folds.cut import BlockCut, cut_blocks
from training.folds.day_totals import DayTotals
from training.folds.fold_report import forecast_totals
from training.folds.skill_figures import pooled_tables
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset, build_dataset
from training.labels.splits import Block

Totals = dict[int, DayTotals]


@dataclass(frozen=True, slots=True)
class Study:
    """What all seeds and blocks share.

    Attributes
    ----------
    config:
        Its account seed is replaced by each of the study's.
    market:
        With the features of the whole span.
    ruleset:
        That makes the labels.
    cut:
        The blocks.
    first:
        First decision time in ns.
    parts:
        Folder of the sums.
    identity:
        Of configuration and code; parts of another are made anew.
    """

    config: Config
    market: Market
    ruleset: RuleSet
    cut: BlockCut
    first: int
    parts: Path
    identity: str

    def evaluate(self, seed: int) -> Iterator[tuple[int, Totals]]:
        """Number and sums of each block under one account seed."""
        config = _seeded(self.config, seed)
        intervals: BookIntervals | None = None
        for k, (start, _) in enumerate(self.cut.spans):
            path = self.parts / f"seed{seed}_{format_time(start)[:10]}.json"
            totals = self._kept(path)
            if totals is None:
                if intervals is None:
                    intervals = read_intervals(config, self.market, self.ruleset)
                totals = self._block(config, intervals, k)
                content = {str(hours): sums.to_dict() for hours, sums in totals.items()}
                kept = {"identity": self.identity, "horizons": content}
                replace_file(path, json.dumps(kept).encode())
                print(f"seed {seed}, block from {format_time(start)[:10]}: done", flush=True)
            yield k, totals

    def _block(self, config: Config, intervals: BookIntervals, k: int) -> Totals:
        data = self._dataset(config, intervals, k)
        fold = self.cut.fold(data, k)
        if fold is None:
            start = format_time(self.cut.spans[k][0])
            raise ModelError(f"the block from {start} has no rows on one side; give more data")
        candidate = fit_candidate(data, fold.block, with_plain_forecast=True)
        test = data.take(np.flatnonzero(fold.block == Block.TEST))
        del data
        gc.collect()
        return forecast_totals(test, candidate.forecast(test))

    def _dataset(self, config: Config, intervals: BookIntervals, k: int) -> Dataset:
        """Rows up to the end of a block, as many of each month as in a data set of all."""
        start, end = self.cut.spans[k]
        share = (end - self.first) / (self.cut.spans[-1][1] - self.first)
        options = replace(
            dataset_options(config, config.market.start_ns),
            end=end,
            max_rows=max(1, int(config.training.max_rows * share)),
            samples="training",
            test_start=start,
        )
        market = known_before(self.market, start)
        return build_dataset(
            label_market(config, market, intervals, self.ruleset), intervals, self.ruleset, options
        )

    def _kept(self, path: Path) -> Totals | None:
        if not path.exists():
            return None
        content = json.loads(path.read_bytes())
        if content["identity"] != self.identity:
            return None
        return {int(hours): DayTotals.from_dict(c) for hours, c in content["horizons"].items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study, write its JSON and print its tables."""
    parser = argparse.ArgumentParser(description="Walk-forward at full size, over account seeds.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", default="11,12,13", help="account seeds, comma-separated")
    parser.add_argument("--json", type=Path, required=True, help="file of the result")
    given = parser.parse_args(arguments)
    seeds = [int(text) for text in given.seeds.split(",")]
    with threadpool_limits(1, user_api="blas"):  # as in a retraining
        report = walk_forward(load_config(given.config), seeds, given.json.with_suffix(".parts"))
    replace_file(given.json, json.dumps(report, indent=1).encode() + b"\n")
    print(tables(report))


def walk_forward(config: Config, seeds: Sequence[int], parts: Path) -> dict[str, Any]:
    """The object of ``--json``: figures by block, by seed and pooled, each by horizon.

    The last block ends with the configured test block, or with the data.
    """
    market = read_market(config)
    closes = market.history.bars.closes
    first = max(int(closes[0]), config.market.start_ns or 0)
    end = min(int(closes[-1]), config.training.test_end_ns or int(closes[-1]))
    end = min(end, (config.market.end_ns or end) + config.training.horizons[-1] * HOUR)
    cut = cut_blocks(first, end, config.review.walk_forward_months, config.review.folds or 1)
    study = Study(
        config,
        market,
        read_label_rules(config, market),
        cut,
        first,
        parts,
        f"{config.sha256()} {cut.length} {source_sha256()}",
    )
    blocks: dict[int, list[Totals]] = {k: [] for k in range(len(cut.spans))}
    by_seed: dict[str, Any] = {}
    for seed in seeds:
        own = dict(study.evaluate(seed))
        by_seed[str(seed)] = pooled_tables(list(own.values()))
        for k, totals in own.items():
            blocks[k].append(totals)
    return {
        "config_sha256": config.sha256(),
        "code_sha256": source_sha256(),
        "seeds": list(seeds),
        "max_rows": config.training.max_rows,
        "block_length": cut.length,
        "blocks": [
            {
                "from": format_time(start),
                "to": format_time(stop),
                "horizons": pooled_tables(blocks[k]),
            }
            for k, (start, stop) in enumerate(cut.spans)
        ],
        "by_seed": by_seed,
        "pooled": pooled_tables([totals for parts in blocks.values() for totals in parts]),
    }


def known_before(market: Market, time: int) -> Market:
    """The market with the coefficients of the volatility forecast fitted to the bars up to a time
    in ns."""
    coefficients = fit_coefficients(market.features, market.history, time)
    return replace(market, features=under_coefficients(market.features, coefficients))


def tables(report: Mapping[str, Any]) -> str:
    """The result as Markdown: a row for each block, then the pool, then every model."""
    hours = list(report["pooled"])
    head = ["block", *(f"{h} h: calls, skill, predicted / observed" for h in hours)]
    rows = [[f"{b['from'][:10]} to {b['to'][:10]}", b["horizons"]] for b in report["blocks"]]
    rows += [[f"seed {seed}", pooled] for seed, pooled in report["by_seed"].items()]
    rows += [["all", report["pooled"]]]
    blocks = [[name, *(_cell(tables[h]) for h in hours)] for name, tables in rows]
    names = list(report["pooled"][hours[0]]["models"])
    models = [
        [name, *(_cell(report["pooled"][h]["models"].get(name)) for h in hours)] for name in names
    ]
    return f"{markdown_table(head, blocks)}\n\n{markdown_table(['model', *head[1:]], models)}"


def _cell(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "-"
    low, high = figures["log_loss_skill_ci95"] or (float("nan"), float("nan"))
    calls = f"{figures['positives']:,}, " if "positives" in figures else ""
    ratio = figures["predicted_over_observed"]
    counts = "-" if ratio is None else f"{ratio:.3f}"
    return f"{calls}{figures['log_loss_skill']:+.2%} [{low:+.2%}, {high:+.2%}], {counts}"


def _seeded(config: Config, seed: int) -> Config:
    accounts = config.accounts.model_copy(update={"seed": seed})
    return config.model_copy(update={"accounts": accounts})


if __name__ == "__main__":
    main()
