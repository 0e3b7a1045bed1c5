"""Verbs of the rule engine beside ``margin``: explain, what-if, liquidation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.config.config import load_config

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration; default margincast.toml.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")]
Cases = Annotated[Path, typer.Option("--cases", help="Cases, one JSON object a line.")]
Results = Annotated[Path, typer.Option("--out", help="Results, one JSON object a line.")]

CASE_FAILED = 2


def explain(
    cases: Cases,
    out: Results,
    against: Annotated[
        Path | None, typer.Option("--against", help="Earlier cases of the same ids: what changed.")
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Say where the margins of cases come from, part by part; exit 2 if a case failed."""
    from margin.cases.what_if_cases import explain_against, explain_case

    run = explain_case if against is None else explain_against(against)
    run_all(cases, out, run, config, json)


def what_if(cases: Cases, out: Results, config: ConfigFile = None, json: JsonFile = None) -> None:
    """Margin changes to cases, sizes that fit, deposits and cuts that help; exit 2 on failures."""
    from margin.cases.what_if_cases import what_if_case

    run_all(cases, out, what_if_case, config, json)


def liquidation(
    cases: Cases, out: Results, config: ConfigFile = None, json: JsonFile = None
) -> None:
    """Liquidation and bankruptcy prices and the next step of margin cases; exit 2 if one failed."""
    from margin.cases.liquidation_cases import run_liquidation_case

    run_all(cases, out, run_liquidation_case, config, json)


def run_all(
    cases: Path,
    out: Path,
    run: Callable[[bytes, int], dict[str, Any]],
    config: Path | None,
    json: Path | None,
) -> None:
    """Answer every case; says how many failed and exits 2 if one did."""
    from margin.cases.margin_cases import run_cases
    from pipelines.reports.report import write_json

    load_config(config)
    failed = run_cases(cases, out, run)
    write_json({"failed": failed, "out": str(out)}, json)
    if failed:
        typer.echo(f"margincast: {failed} case(s) failed; see the error lines in {out}", err=True)
        raise typer.Exit(CASE_FAILED)


def mount(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(explain)
    app.command("what-if")(what_if)
    app.command()(liquidation)
