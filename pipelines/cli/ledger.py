"""Verbs of the ledger: upgrade, verify, replay, heads, archive, prune, backup."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from market.core.errors import AlteredError
from market.core.redaction import redact
from pipelines.cli.options import ConfigFile, JsonFile
from pipelines.cli.settings import load_config, log_as_json, say

ledger_app = typer.Typer(help="Audit the ledger.", no_args_is_help=True)

NOT_INTACT = 4

ArchiveFolder = Annotated[
    Path | None, typer.Option("--archive", help="Folder of the archived segments.")
]


@contextmanager
def _exit_if_altered() -> Iterator[None]:
    """Turn an `AlteredError` into one line and the exit code `NOT_INTACT`."""
    try:
        yield
    except AlteredError as error:
        line = redact(str(error))
        if not log_as_json(line, logging.ERROR):
            typer.echo(f"margincast: {line}", err=True)
        raise typer.Exit(NOT_INTACT) from error


@ledger_app.command("upgrade")
def ledger_upgrade(config: ConfigFile = None, json: JsonFile = None) -> None:
    """Upgrade a ledger of an earlier version; the old SQLite file is kept beside it."""
    from pipelines.audit.upgrade import upgrade_ledger
    from pipelines.reports.report import show

    show("ledger upgrade", upgrade_ledger(load_config(config)), json)


@ledger_app.command("verify")
def ledger_verify(
    heads: Annotated[
        Path | None, typer.Option("--heads", help="Heads kept elsewhere: a file or a folder.")
    ] = None,
    public_key: Annotated[
        list[str] | None,
        typer.Option("--public-key", help="Trusted key; default \\[ledger] heads_public_keys."),
    ] = None,
    require_covered: Annotated[
        str | None,
        typer.Option("--require-covered", help="Longest time without heads, like 25h."),
    ] = None,
    archive: ArchiveFolder = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Check records, contents, answers, keys and tables; exit 4 if something is wrong."""
    from pipelines.audit.verify import VerifyOptions, verify_ledger
    from pipelines.reports.report import show

    options = VerifyOptions(heads, tuple(public_key or ()), require_covered, archive)
    with _exit_if_altered():
        report = verify_ledger(load_config(config), options)
    show("ledger verify", report, json)
    if not report["intact"]:
        raise typer.Exit(NOT_INTACT)


@ledger_app.command("heads")
def ledger_heads(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File or folder to write to. Default \\[ledger] heads_dir, then heads_command.",
        ),
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option("--previous", help="The previous heads file; default: the newest beside it."),
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Write the heads of all chains, signed if MARGINCAST_HEADS_KEY is set.

    Exit 4 without writing if the ledger does not contain the previous heads.
    """
    from pipelines.audit.heads import publish_heads, write_heads_file
    from pipelines.reports.report import show
    from pipelines.scheduler.notify import run_and_notify

    settings = load_config(config)
    with _exit_if_altered():
        if out is not None:
            report = write_heads_file(settings, out, previous)
        else:
            report = run_and_notify(settings, "heads", lambda: publish_heads(settings))
    show("ledger heads", report, json)


@ledger_app.command("keygen")
def ledger_keygen(json: JsonFile = None) -> None:
    """Make a key pair for heads; prints the private key once, the JSON has the public one only."""
    from ledger.audit.signing import KEY_VARIABLE, make_key_pair
    from pipelines.reports.report import write_json

    pair = make_key_pair()
    write_json({"public_key": pair.public}, json)
    say(f"{KEY_VARIABLE}={pair.private}")
    say(f'heads_public_keys = ["{pair.public}"]')


@ledger_app.command("replay")
def ledger_replay(
    decision: Annotated[str, typer.Argument(help="Id of a decision, or of an evaluation.")],
    account: Annotated[
        str | None, typer.Option("--account", help="Only this account of an evaluation.")
    ] = None,
    archive: ArchiveFolder = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Recompute a record and compare; exit 4 if it differs and no later ADR explains it."""
    from pipelines.audit.replay import replay_record
    from pipelines.reports.report import show

    with _exit_if_altered():
        report = replay_record(load_config(config), decision, archive, account)
    show("ledger replay", report, json)
    if report["verdict"] == "superseded":
        changes = "; ".join(f"ADR {c['adr']}: {c['title']}" for c in report["superseded_by"])
        say(f"margincast: superseded, the record differs as these changes say: {changes}")
    elsewhere = report["equal_within"] and not report["same_machine"]
    if report["verdict"] == "different" and not elsewhere:
        raise typer.Exit(NOT_INTACT)


@ledger_app.command("archive")
def ledger_archive(
    before: Annotated[str, typer.Option("--before", help="Records before this time, ISO 8601.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the archive.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Move old decisions to parquet files, which are read back before a row is deleted."""
    from pipelines.audit.archive import archive_ledger
    from pipelines.reports.report import show

    show("ledger archive", archive_ledger(load_config(config), before, out), json)


@ledger_app.command("prune")
def ledger_prune(config: ConfigFile = None, json: JsonFile = None) -> None:
    """Delete answers that are older than \\[ledger] answers_days, as a running endpoint does."""
    from pipelines.audit.prune import prune_answers
    from pipelines.reports.report import show

    show("ledger prune", prune_answers(load_config(config)), json)


@ledger_app.command("backup")
def ledger_backup(
    out: Annotated[Path, typer.Option("--out", help="File to write; must not exist.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Copy an SQLite ledger that is in use, and verify the copy; exit 4 if it is not intact."""
    from pipelines.audit.archive import back_up_ledger
    from pipelines.reports.report import show

    report = back_up_ledger(load_config(config), out)
    show("ledger backup", report, json)
    if not report["intact"]:
        raise typer.Exit(NOT_INTACT)
