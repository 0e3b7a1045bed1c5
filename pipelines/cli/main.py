"""The command line: ``margincast VERB --config FILE [--json OUT]``.

Every verb imports what it needs when it runs, so that the quick ones stay quick.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from market.core.errors import AlteredError, MargincastError
from market.core.redaction import redact
from pipelines.cli.extras import missing_module, require
from pipelines.cli.jobs import drift, lifecycle, schedule, surface
from pipelines.cli.margin import explain, liquidation, margin, what_if
from pipelines.cli.options import AccountFiles, BundlePath, ConfigFile, JsonFile
from pipelines.cli.rulesets import rulesets_app
from pipelines.config.config import Config, load_config

app = typer.Typer(
    name="margincast",
    help="Forecast margin calls and propose add-ons bounded by rules.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ledger_app = typer.Typer(help="Audit the ledger.", no_args_is_help=True)
keys_app = typer.Typer(help="Keys of the endpoint.", no_args_is_help=True)
app.add_typer(rulesets_app, name="rulesets")
app.add_typer(ledger_app, name="ledger")
app.add_typer(keys_app, name="keys")
for verb in (drift, schedule, lifecycle, surface, explain, what_if, liquidation, margin):
    app.command()(verb)

SAFETY_GATE_FAILED = 3
NOT_INTACT = 4
ALL_DEGRADED = 5


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["MARGINCAST_DEBUG"] = "1"


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
def data(config: ConfigFile = None, json: JsonFile = None) -> None:
    """Read the data and report what is wrong with them."""
    from pipelines.data.data_quality import check_data, quality_tables
    from pipelines.reports.report import write_json

    report = check_data(load_config(config))
    write_json(report, json)
    quality_tables(report)


@app.command()
def retrain(config: ConfigFile = None, json: JsonFile = None) -> None:
    """Train, evaluate, gate and register a model."""
    from pipelines.reports.report import bars_line, drift_line, retrain_tables, write_json

    try:
        require("training", "retrain")
        from pipelines.jobs.retrain import retrain as job

        report = job(load_config(config))
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
def evaluate(bundle: BundlePath, config: ConfigFile = None, json: JsonFile = None) -> None:
    """Score a bundle on the configured data against its baselines; never fits."""
    require("training", "evaluate")
    from pipelines.jobs.evaluate import evaluate_bundle
    from pipelines.reports.report import bars_line, evaluation_tables, write_json

    report = evaluate_bundle(load_config(config), bundle)
    write_json(report, json)
    for warning in report["warnings"]:
        typer.echo(f"margincast: warning: {warning}", err=True)
    bars_line(report["bars"])
    evaluation_tables(report)


@app.command()
def backtest(bundle: BundlePath, config: ConfigFile = None, json: JsonFile = None) -> None:
    """Run the add-on policy against the reference policies."""
    require("training", "backtest")
    from pipelines.jobs.backtest import backtest_bundle
    from pipelines.reports.report import backtest_table, bars_line, write_json

    report = backtest_bundle(load_config(config), bundle)
    write_json(report, json)
    bars_line(report["bars"])
    backtest_table(report)


@app.command()
def score(
    accounts: AccountFiles,
    as_of: Annotated[str, typer.Option("--as-of", help="Decision time, ISO 8601 in UTC.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    record: Annotated[bool, typer.Option("--record", help="Record the decisions.")] = False,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Decide on a whole book, one row an account; exit 5 if every decision is degraded."""
    from pipelines.jobs.score import degraded_line, score_book, unusable
    from pipelines.reports.report import bars_line, facts, write_json

    report = score_book(load_config(config), accounts, as_of, out, record=record)
    write_json(report, json)
    bars_line(report["bars"])
    shown = {key: value for key, value in report.items() if key != "bars"}
    facts("score", shown | {"errors": f"{len(report['errors'])} account(s), see --json"})
    line = degraded_line(report)
    if line is not None:
        typer.echo(f"margincast: {line}", err=True)
    if unusable(report):
        raise typer.Exit(ALL_DEGRADED)


@app.command()
def serve(config: ConfigFile = None) -> None:
    """Run the endpoint."""
    _serve(load_config(config))


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="Do not serve at the end.")] = False,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Simulate, retrain, gate, register, score the book, then serve."""
    require("training", "run")
    from pipelines.jobs.run import print_addresses, run as job
    from pipelines.reports.report import write_json

    settings = load_config(config)
    report = job(settings)
    write_json(report, json)
    if report["retrain"]["verdict"] == "refused":
        raise typer.Exit(SAFETY_GATE_FAILED)
    print_addresses(settings, serving=not once)
    if not once:
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
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Make a bundle the champion."""
    require("training", "promote")
    from pipelines.registry.promotion import promote as job
    from pipelines.reports.report import show

    show("promote", job(load_config(config), bundle, override), json)


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
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Champion against the newest version: figures, gates, what differs, verdict."""
    require("training", "review")
    from pipelines.registry.review import review as job
    from pipelines.reports.report import write_json
    from pipelines.reports.review_report import review_report

    report = job(load_config(config), out)
    write_json(report, json)
    review_report(report)


@ledger_app.command("verify")
def ledger_verify(
    heads: Annotated[Path | None, typer.Option("--heads", help="Heads kept elsewhere.")] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Walk every chain; exit 4 if it is not intact."""
    from pipelines.jobs.audit import verify_ledger
    from pipelines.reports.report import show

    report = verify_ledger(load_config(config), heads)
    show("ledger verify", report, json)
    if not report["intact"]:
        raise typer.Exit(NOT_INTACT)


@ledger_app.command("heads")
def ledger_heads(
    out: Annotated[Path, typer.Option("--out", help="File to keep outside the ledger.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Write the heads of all chains."""
    from pipelines.jobs.audit import write_ledger_heads
    from pipelines.reports.report import show

    show("ledger heads", write_ledger_heads(load_config(config), out), json)


@ledger_app.command("replay")
def ledger_replay(
    decision: Annotated[str, typer.Argument(help="Id of a decision.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Recompute a decision and compare; exit 4 if it differs and no later ADR explains it."""
    from pipelines.jobs.audit import replay_decision
    from pipelines.reports.report import show

    try:
        report = replay_decision(load_config(config), decision)
    except AlteredError as error:
        typer.echo(f"margincast: {redact(str(error))}", err=True)
        raise typer.Exit(NOT_INTACT) from error
    show("ledger replay", report, json)
    if report["verdict"] == "superseded":
        changes = "; ".join(f"ADR {c['adr']}: {c['title']}" for c in report["superseded_by"])
        typer.echo(f"margincast: superseded, the record differs as these changes say: {changes}")
    elsewhere = report["equal_within"] and not report["same_machine"]
    if report["verdict"] == "different" and not elsewhere:
        raise typer.Exit(NOT_INTACT)


@keys_app.command("add")
def keys_add(
    scopes: Annotated[str, typer.Option("--scopes", help="score,market,read,admin")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Print a new key, once; the JSON names the key and its scopes, never the secret."""
    from ledger.keys import Keys
    from ledger.store import Ledger
    from pipelines.reports.report import write_json

    names = [name.strip() for name in scopes.split(",") if name.strip()]
    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        key_id, secret = Keys(ledger).add_key(names)
    write_json({"key_id": key_id, "scopes": names}, json)
    typer.echo(secret)


@keys_app.command("list")
def keys_list(config: ConfigFile = None, json: JsonFile = None) -> None:
    """List the keys, never their secrets."""
    from ledger.keys import Keys
    from ledger.store import Ledger
    from market.core.clock import format_time
    from pipelines.reports.report import show

    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        keys = Keys(ledger).list_keys()
    listed = {
        key.key_id: {
            "scopes": list(key.scopes),
            "created_at": format_time(key.created_at),
            "revoked_at": format_time(key.revoked_at) if key.revoked_at is not None else None,
        }
        for key in keys
    }
    show("keys", listed, json)


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Revoke a key."""
    from ledger.keys import Keys
    from ledger.store import Ledger
    from pipelines.reports.report import write_json

    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        Keys(ledger).revoke(key_id)
    write_json({"key_id": key_id, "revoked": True}, json)


def main() -> None:
    """Entry point: deliberate errors and inaccessible files become one line and exit code 1.

    Tracebacks, of unexpected errors or with ``--debug``, are free of credentials.
    """
    # Threads that spin while waiting slow training down four times beside any other job.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except Exception as error:  # noqa: BLE001  the outermost handler: print, and exit code 1
        line = None if os.environ.get("MARGINCAST_DEBUG") else _error_line(error)
        text = traceback.format_exc() if line is None else f"margincast: {line}\n"
        sys.stderr.write(redact(text))
        sys.exit(1)


def _error_line(error: Exception) -> str | None:
    """What went wrong, in one line; None where only a traceback tells."""
    if isinstance(error, MargincastError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return missing_module(error)
    if isinstance(error, OSError) and error.filename is not None:
        names = " and ".join(
            repr(str(name)) for name in (error.filename, error.filename2) if name is not None
        )
        return f"{names}: {error.strerror}; give a path that can be used"
    return None
