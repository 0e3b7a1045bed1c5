"""Command line of the fit: ``python -m research.simulator_fit --config FILE --out NAME.toml``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from pipelines.config.config import load_config
from pipelines.reports.report import facts, write_json
from research.simulator_fit.fit_market import QuoteFiles, fit_market


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the simulated market to real bars and store its parameters."""
    parser = ArgumentParser(prog="python -m research.simulator_fit", description=main.__doc__)
    option = parser.add_argument
    option("--out", type=Path, required=True, help="parameter file to write, NAME.toml")
    option("--spot", type=Path, help="folder of spot bars, for the basis")
    option("--perp", type=Path, help="folder of bars of the perpetuals")
    option("--liquidity", type=Path, help="Parquet file of spreads and slippage")
    option("--interest", type=Path, help="Parquet file of daily open interest")
    option("--base", default="assumed", help="stored market to start from")
    option("--steps", type=int, default=14, help="most iterations of the search")
    option("--config", type=Path, help="configuration; default margincast.toml")
    option("--json", type=Path, help="write the result here as JSON")
    chosen = parser.parse_args(arguments)
    if chosen.steps < 1:
        parser.error(f"--steps is {chosen.steps}; expected at least 1")
    quotes = QuoteFiles(chosen.spot, chosen.perp, chosen.liquidity, chosen.interest)
    report = fit_market(load_config(chosen.config), chosen.out, quotes, chosen.base, chosen.steps)
    facts("fit-market", report)
    write_json(report, chosen.json)


if __name__ == "__main__":
    main()
