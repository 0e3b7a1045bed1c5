"""Command line of the fit: ``python -m research.simulator_fit --config FILE --out NAME.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.config.config import load_config
from pipelines.reports.report import facts, write_json
from research.simulator_fit.fit_market import QuoteFiles, fit_market

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def fit(
    out: Annotated[Path, typer.Option("--out", help="Parameter file to write, NAME.toml.")],
    spot: Annotated[Path | None, typer.Option("--spot", help="Spot bars, for the basis.")] = None,
    perp: Annotated[Path | None, typer.Option("--perp", help="Perpetual bars beside them.")] = None,
    liquidity: Annotated[
        Path | None, typer.Option("--liquidity", help="Parquet file of spreads and slippage.")
    ] = None,
    interest: Annotated[
        Path | None, typer.Option("--interest", help="Parquet file of daily open interest.")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="Stored market to start from.")] = "assumed",
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Most iterations of the search.")
    ] = 14,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration; default margincast.toml.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result here as JSON.")
    ] = None,
) -> None:
    """Fit the simulated market to real bars and store its parameters."""
    quotes = QuoteFiles(spot, perp, liquidity, interest)
    report = fit_market(load_config(config), out, quotes, base, steps)
    facts("fit-market", report)
    write_json(report, json)


if __name__ == "__main__":
    app()
