"""Verbs of the rule engine: margin, explain, what-if, liquidation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import Cases, ConfigFile, JsonFile, Results
from pipelines.cli.settings import load_config, warn

CASE_FAILED = 2


def margin(cases: Cases, out: Results, config: ConfigFile = None, json: JsonFile = None) -> None:
    """Run the rule engine alone."""
    from margin.cases.margin_cases import run_case

    _run_all(cases, out, run_case, config, json)


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
    _run_all(cases, out, run, config, json)


def what_if(cases: Cases, out: Results, config: ConfigFile = None, json: JsonFile = None) -> None:
    """Margin changes to cases, sizes that fit, deposits and cuts that help; exit 2 on failures."""
    from margin.cases.what_if_cases import what_if_case

    _run_all(cases, out, what_if_case, config, json)


def liquidation(
    cases: Cases, out: Results, config: ConfigFile = None, json: JsonFile = None
) -> None:
    """Liquidation and bankruptcy prices and the next step of margin cases; exit 2 if one failed."""
    from margin.cases.liquidation_cases import run_liquidation_case

    _run_all(cases, out, run_liquidation_case, config, json)


def _run_all(
    cases: Path,
    out: Path,
    run: Callable[[bytes, int], dict[str, Any]],
    config: Path | None,
    json: Path | None,
) -> None:
    """Run every case; print how many failed and exit 2 if any did."""
    from margin.cases.margin_cases import run_cases
    from pipelines.reports.report import show

    load_config(config)
    failed = run_cases(cases, out, run)
    show("cases", {"failed": failed, "out": str(out)}, json)
    if failed:
        warn(f"{failed} case(s) failed; see the error lines in {out}")
        raise typer.Exit(CASE_FAILED)
