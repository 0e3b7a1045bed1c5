"""Does asking for more margin in stress raise forced selling, once sales move the price?

``python -m research.experiments.forced_selling CONFIG --json OUT`` holds a venue's book through
each stress window in the data, hour by hour, under levels that ask for the same margin on average
over ordinary weeks, and prints the tables of ``docs/experiments/forced-selling.md``. Accounts that
breach, or cannot meet a call, are sold. Without feedback the prices are those observed; with
feedback the sales move them, and the next hour's levels are computed from the moved bars.

References
----------
Brunnermeier, Pedersen (2009), "Market liquidity and funding liquidity" (margin spirals). Impact:
the square-root law of `margin.floors.liquidity`. Farmer, Gerig, Lillo, Waelbroeck (2013), "How
efficiency shapes market impact" (two thirds of it are permanent).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipelines.config.config import load_config
from pipelines.data.loaders import read_label_rules, read_market, usable
from research.experiments.forced_selling.study import stress_rows, study, tables
from research.experiments.forced_selling.windows import Settings, VenueMarket


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="11,12,13,14,15")
    parser.add_argument("--shares", default="0,0.3", help="shares of the book on one side")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = parser.parse_args(arguments)
    config = load_config(given.config)
    read = read_market(config)
    market = VenueMarket(read.history, read.features, usable(read))
    report = study(
        market,
        read_label_rules(config, read),
        Settings(**{name: getattr(given, name) for name in asdict(Settings())}),
        [int(seed) for seed in given.seeds.split(",")],
        [float(share) for share in given.shares.split(",")],
        stress_rows(market),
        config.training.calibrate_end_ns,
    )
    given.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(tables(report))


if __name__ == "__main__":
    main()
