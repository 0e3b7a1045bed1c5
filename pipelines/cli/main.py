"""The command line: ``margincast VERB --config FILE [--json OUT]``.

Every verb imports what it needs when it runs, so that the quick ones stay quick.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from market.core.errors import ConfigError, MargincastError
from market.core.redaction import redact
from pipelines.cli.extras import missing_module, require
from pipelines.cli.jobs import (
    drift,
    features,
    fit_volatility,
    lifecycle,
    monitor,
    schedule,
    surface,
    warm_up,
)
from pipelines.cli.keys import keys_app
from pipelines.cli.ledger import ledger_app
from pipelines.cli.margin import explain, liquidation, margin, what_if
from pipelines.cli.options import (
    AccountFiles,
    BundlePath,
    ConfigFile,
    JsonFile,
    PageFile,
    options_given,
    reasons_by_gate,
)
from pipelines.cli.policy import policy
from pipelines.cli.report import report_app
from pipelines.cli.rulesets import rulesets_app
from pipelines.cli.settings import load_config, log_as_json, say, warn
from pipelines.cli.usage.examples import add_usage
from pipelines.cli.usage.shell import set_colours, show_version

if TYPE_CHECKING:
    from pipelines.config.config import Config

app = typer.Typer(
    name="margincast",
    help="Forecast margin calls and propose add-ons bounded by rules.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(rulesets_app, name="rulesets")
app.add_typer(ledger_app, name="ledger")
app.add_typer(keys_app, name="keys")
app.add_typer(report_app, name="report")
for verb in (
    *(drift, schedule, lifecycle, surface, features, fit_volatility, warm_up, monitor),
    *(explain, what_if, liquidation, margin, policy),
):
    app.command()(verb)

SAFETY_GATE_FAILED = 3
ALL_DEGRADED = 5
ACCOUNTS_REFUSED = 6


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            envvar="MARGINCAST_QUIET",
            help="No progress on stderr; errors and warnings only.",
        ),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True),
    ] = False,
) -> None:
    if debug:
        os.environ["MARGINCAST_DEBUG"] = "1"
    if quiet:
        os.environ["MARGINCAST_QUIET"] = "1"


@app.command()
def init(json: JsonFile = None) -> None:
    """Write margincast.toml, with every key explained, in the current folder."""
    from pipelines.config.config import DEFAULT_FILE
    from pipelines.config.starting_file import write_starting_file
    from pipelines.reports.report import write_json

    write_starting_file(DEFAULT_FILE)
    write_json({"written": str(DEFAULT_FILE.absolute())}, json)
    say(f"{DEFAULT_FILE} written: the configuration of the demonstration; edit it there")


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Write a simulated market and book in the data contract."""
    from pipelines.jobs.simulate import simulate as job
    from pipelines.reports.report import show

    show("simulate", job(load_config(config), out), json)


@app.command()
def data(
    accounts: Annotated[
        Path | None,
        typer.Option("--accounts", help="Check this folder of account files, .parquet or .csv."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="With --accounts: ISO 8601 in UTC; default newest close."),
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Report what is wrong with the market data, or with account files of your own.

    Exit 6 if an account of --accounts would be refused.
    """
    if accounts is not None:
        from pipelines.data.account_check import account_tables, check_account_folder
        from pipelines.reports.report import write_json

        report = check_account_folder(load_config(config), accounts, as_of)
        write_json(report, json)
        account_tables(report)
        if report["refused"]:
            raise typer.Exit(ACCOUNTS_REFUSED)
        return
    if as_of is not None:
        raise ConfigError("--as-of is the time of account files; give it with --accounts")
    from pipelines.data.data_quality import check_data, quality_tables
    from pipelines.reports.report import write_json

    report = check_data(load_config(config))
    write_json(report, json)
    quality_tables(report)


@app.command()
def retrain(
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="GATE=REASON",
            help="Why a failed stress or segment gate does not hold the model back; recorded. "
            "Repeatable.",
        ),
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Train, evaluate, gate and register a model."""
    from pipelines.reports.report import bars_line, drift_line, retrain_tables, write_json

    try:
        require("training", "retrain")
        from pipelines.jobs.retrain import retrain as job

        report = job(load_config(config), reasons_by_gate(accept or []))
    except MargincastError as error:
        write_json({"verdict": "failed", "reasons": [str(error)]}, json)
        raise
    write_json(report, json)
    bars_line(report["bars"])
    retrain_tables(report)
    drift_line(report["drift"], report["change"])
    if report["verdict"] == "refused":
        raise typer.Exit(SAFETY_GATE_FAILED)


@app.command()
def evaluate(
    bundle: BundlePath,
    out: PageFile = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Score a bundle on the configured data against its baselines; never fits."""
    require("training", "evaluate")
    from pipelines.jobs.evaluate import evaluate_bundle
    from pipelines.reports.job_report import check_page_path, write_job_page
    from pipelines.reports.report import bars_line, evaluation_tables, write_json

    check_page_path(out)
    started = time.time_ns()
    settings = load_config(config)
    report = evaluate_bundle(settings, bundle)
    write_json(report, json)
    given = options_given(bundle=bundle, config=config)
    write_job_page(settings, "evaluate", report, out, given, started)
    for warning in report["warnings"]:
        warn(f"warning: {warning}")
    bars_line(report["bars"])
    evaluation_tables(report)


@app.command()
def backtest(
    bundle: BundlePath,
    out: PageFile = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Compare the add-on with other policies at equal average level."""
    require("training", "backtest")
    from pipelines.jobs.backtest import backtest_bundle
    from pipelines.reports.job_report import check_page_path, write_job_page
    from pipelines.reports.report import backtest_tables, bars_line, write_json

    check_page_path(out)
    started = time.time_ns()
    settings = load_config(config)
    report = backtest_bundle(settings, bundle)
    write_json(report, json)
    given = options_given(bundle=bundle, config=config)
    write_job_page(settings, "backtest", report, out, given, started)
    for warning in report["warnings"]:
        warn(f"warning: {warning}")
    bars_line(report["bars"])
    backtest_tables(report)


@app.command()
def score(
    accounts: AccountFiles,
    out: Annotated[Path, typer.Option("--out", help="A .parquet or .csv file to write.")],
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="Decision time, ISO 8601 in UTC; default newest close."),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Record the decisions.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Fill the column explain with all parts and reasons.")
    ] = False,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Decide on a whole book, one row an account; exit 5 if every decision is degraded."""
    from pipelines.jobs.score import degraded_line, score_book, unusable
    from pipelines.reports.report import bars_line, facts, write_json

    report = score_book(load_config(config), accounts, as_of, out, record=record, explain=explain)
    write_json(report, json)
    bars_line(report["bars"])
    shown = {key: value for key, value in report.items() if key != "bars"}
    facts("score", shown | {"errors": f"{len(report['errors'])} account(s), see --json"})
    line = degraded_line(report)
    if line is not None:
        warn(line)
    if unusable(report):
        raise typer.Exit(ALL_DEGRADED)


@app.command()
def serve(
    config: ConfigFile = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes; default \\[serving] workers.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address; default \\[serving] host.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port; default \\[serving] port.")
    ] = None,
) -> None:
    """Run the endpoint."""
    options = {"workers": workers, "host": host, "port": port}
    for key, value in options.items():
        if value is not None:
            # Checked with the rest of the configuration, and stronger than file and environment.
            os.environ[f"MARGINCAST__SERVING__{key.upper()}"] = str(value)
    _serve(load_config(config))


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="Do not serve at the end.")] = False,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Simulate, retrain, gate, register, score the book, then serve while the market moves on.

    An identical training is left out: what is there serves. Where the folder has no margincast.toml
    and none is given, that of the demonstration is written first.
    """
    require("training", "run")
    from pipelines.config.config import DEFAULT_FILE
    from pipelines.config.starting_file import write_starting_file

    if config is None and not DEFAULT_FILE.exists():
        write_starting_file(DEFAULT_FILE)
        text = f"{DEFAULT_FILE} written, as there was none: the demonstration's configuration"
        typer.echo(text, err=True)  # standard output may be the JSON
    from pipelines.jobs.run import check_run, print_addresses, run as job
    from pipelines.reports.report import write_json

    settings = load_config(config)
    check_run(settings, serving=not once)
    report = job(settings, config)
    write_json(report, json)
    if report["retrain"]["verdict"] == "refused":
        raise typer.Exit(SAFETY_GATE_FAILED)
    print_addresses(settings, serving=not once, config_file=config)
    if not once:
        from pipelines.venue.client_files import with_clients
        from pipelines.venue.notified_venue import with_venue
        from pipelines.venue.process import venue_beside

        settings = with_venue(with_clients(settings))
        with venue_beside(settings):
            _serve(settings)


def _serve(config: Config) -> None:
    # Objects of the start-up live as long as the process: collecting garbage only costs time.
    gc.disable()
    from pipelines.jobs.serve import serve as job

    job(config)


@app.command()
def promote(
    bundle: Annotated[
        str | None, typer.Argument(help="SHA-256 of the bundle; default the challenger.")
    ] = None,
    override: Annotated[
        str | None,
        typer.Option("--override", help="Why it may serve despite a failed safety gate; recorded."),
    ] = None,
    from_alias: Annotated[
        bool, typer.Option("--from-alias", help="Adopt what MLflow's alias champion points to.")
    ] = False,
    rules: Annotated[
        str | None,
        typer.Option(
            "--rules",
            metavar="REASON",
            help="Adopt the configured rule versions instead, whatever they change; recorded.",
        ),
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Make a bundle the champion, or adopt rule versions."""
    require("training", "promote")
    from pipelines.registry.promotion import promote as job
    from pipelines.reports.report import show

    settings = load_config(config)
    if rules is not None:
        from pipelines.registry.rule_adoption import promote_rules

        if bundle is not None or override is not None or from_alias:
            raise ConfigError("--rules adopts rule versions; give it without a bundle")
        show("rules", promote_rules(settings, rules), json)
        return
    show("promote", job(settings, bundle, override, from_alias=from_alias), json)


@app.command()
def rollback(config: ConfigFile = None, json: JsonFile = None) -> None:
    """Go back to the previous champion."""
    require("training", "rollback")
    from pipelines.registry.promotion import rollback as job
    from pipelines.reports.report import show

    show("rollback", job(load_config(config)), json)


@app.command()
def review(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the review as one HTML page.")
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Compare champion and challenger on recorded decisions too."),
    ] = False,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Champion against the newest version: figures, gates, what differs, verdict."""
    require("training", "review")
    from pipelines.registry.review import review as job
    from pipelines.reports.report import write_json
    from pipelines.reports.review_report import review_report

    report = job(load_config(config), out, shadow=shadow)
    write_json(report, json)
    review_report(report)


add_usage(app)


def main() -> None:
    """Entry point: deliberate errors and inaccessible files become one line and exit code 1;
    options that do not fit become one line and exit code 2.

    Tracebacks, of unexpected errors or with ``--debug``, are free of credentials.
    """
    # Threads that spin while waiting make training four times slower if another job runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    set_colours()
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Abort:
        sys.exit(1)
    except typer.TyperException as error:
        _refuse(error)
    except Exception as error:  # noqa: BLE001  the outermost handler: print, and exit code 1
        line = None if os.environ.get("MARGINCAST_DEBUG") else _error_line(error)
        if line is None or not log_as_json(line, logging.ERROR):
            text = traceback.format_exc() if line is None else f"margincast: {line}\n"
            sys.stderr.write(redact(text))
        sys.exit(1)


def _refuse(error: typer.TyperException) -> NoReturn:
    """End with one line that says what is wrong; a help that was shown has no message."""
    message = " ".join(error.format_message().split())
    if message:
        context = getattr(error, "ctx", None)
        program = "margincast" if context is None else context.command_path
        told = f"{message} See" if message.endswith("?") else f"{message.rstrip('.')}; see"
        sys.stderr.write(redact(f"margincast: {told} {program} --help\n"))
    sys.exit(error.exit_code)


def _error_line(error: Exception) -> str | None:
    """What went wrong, in one line; None where only a traceback tells."""
    if isinstance(error, MargincastError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return missing_module(error)
    if isinstance(error, RecursionError):
        return "an input is nested too deeply to be read; give a plain one"
    if isinstance(error, OSError) and error.filename is not None:
        names = " and ".join(
            repr(str(name)) for name in (error.filename, error.filename2) if name is not None
        )
        return f"{names}: {error.strerror}; give a path that can be used"
    return None
