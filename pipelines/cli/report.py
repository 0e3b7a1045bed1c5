"""Verb: report KIND, one command a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from market.core.errors import ConfigError
from pipelines.cli.options import ConfigFile, JsonFile
from pipelines.cli.settings import load_config
from pipelines.cli.usage.shell import complete_ruleset

report_app = typer.Typer(help="Reports on the book, one a kind.", no_args_is_help=True)

LEDGER_REPORTS: Mapping[str, str] = {
    "daily-margin": "Requirement and resources of the book, by account and by underlying.",
    "calls": "Margin calls of a span, and how old the open ones are.",
    "coverage": "Recorded levels against what then happened: tests and traffic light.",
    "procyclicality": "How far and how fast the requirement of the book moved.",
    "concentration": "Largest accounts and positions, and the time to close them.",
    "overrides": "Overrides, modes, approvals and disputes.",
    "change-events": "Changes of model or rules, and what they did to the requirement.",
    "client-statement": "One account over a span: equity, positions, calls, payments.",
    "call-notice": "One margin call, as the client is told of it.",
    "audit-extract": "All records of a span with their hashes.",
}
"""Kinds that are made from the ledger alone, and what each shows."""


@report_app.command("pro-forma")
def pro_forma(
    out: Annotated[
        Path, typer.Option("--out", help="An .html page, or a .csv with one row an account.")
    ],
    rules: Annotated[
        str | None,
        typer.Option(
            "--rules",
            help="Rule set to go live; default that in force.",
            autocompletion=complete_ruleset,
        ),
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


@report_app.command("scheduled")
def scheduled(
    day: Annotated[
        str | None, typer.Option("--date", help="A day (UTC); default the newest whole one.")
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Write the reports of [reports] for a day, as the scheduler does."""
    from pipelines.cli.extras import require

    require("training", "report scheduled")
    from pipelines.reports.report import show
    from pipelines.scheduler.scheduled_reports import scheduled_reports

    show("reports", scheduled_reports(load_config(config), day), json)


def _ledger_report(kind: str) -> Callable[..., None]:
    """The command of a kind of report that is made from the ledger."""

    def command(
        out: Annotated[
            Path,
            typer.Option(
                "--out", help="An .html, .csv, .parquet or .pdf file; tables beside the main one."
            ),
        ],
        day: Annotated[
            str | None, typer.Option("--date", help="A day (UTC), its close at 24:00 included.")
        ] = None,
        start: Annotated[
            str | None, typer.Option("--from", help="In place of --date: a date or time in UTC.")
        ] = None,
        end: Annotated[
            str | None, typer.Option("--to", help="With --from: a time, or a date as a whole.")
        ] = None,
        account: Annotated[str | None, typer.Option("--account", help="One account.")] = None,
        call: Annotated[str | None, typer.Option("--call", help="One call, by its id.")] = None,
        config: ConfigFile = None,
        json: JsonFile = None,
    ) -> None:
        from pipelines.cli.extras import require

        require("training", f"report {kind}")
        from pipelines.ledger_reports.formats.write import check_format, write_report
        from pipelines.ledger_reports.kinds import existing_ledger, make_report
        from pipelines.ledger_reports.request import ReportRequest, Span
        from pipelines.reports.report import facts, write_json

        check_format(out)
        request = ReportRequest(Span.of(day, start, end), account, call)
        with existing_ledger(load_config(config).ledger.url) as ledger:
            report = make_report(ledger, kind, request)
        written = write_report(report, out)
        write_json(report.to_dict(), json)
        facts(report.title, {**report.all_facts(), "written": ", ".join(map(str, written))})

    return command


for _kind, _help in LEDGER_REPORTS.items():
    report_app.command(_kind, help=_help)(_ledger_report(_kind))
