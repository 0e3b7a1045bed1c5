"""Verb: report KIND, one command a kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from market.core.errors import ConfigError
from pipelines.cli.options import ConfigFile, JsonFile
from pipelines.cli.settings import load_config

report_app = typer.Typer(help="Reports on the book, one a kind.", no_args_is_help=True)


@report_app.command("pro-forma")
def pro_forma(
    out: Annotated[
        Path, typer.Option("--out", help="An .html page, or a .csv with one row an account.")
    ],
    rules: Annotated[
        str | None, typer.Option("--rules", help="Rule set to go live; default that in force.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Model to go live; default the champion.")
    ] = None,
    accounts: Annotated[
        Path | None,
        typer.Option("--accounts", help="Folder of account files; default a reference sample."),
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="With --accounts: the time, ISO 8601 in UTC.")
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Compare what is in force with a rule set or model before it goes live."""
    from pipelines.pro_forma.report import BookAt, Candidate, pro_forma_report
    from pipelines.reports.pro_forma_report import pro_forma_tables
    from pipelines.reports.report import write_json

    settings = load_config(config)
    if (accounts is None) != (as_of is None):
        raise ConfigError(
            "--accounts and --as-of go together: the folder of the account files and the time at "
            "which they are read; give both, or neither for the reference sample"
        )
    book = None if accounts is None or as_of is None else BookAt(accounts, as_of)
    report = pro_forma_report(settings, Candidate(rules, bundle), book, out)
    write_json(report, json)
    pro_forma_tables(report)
