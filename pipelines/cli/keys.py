"""The verbs of keys: add, list, rotate, revoke."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipelines.cli.options import ConfigFile, JsonFile
from pipelines.cli.settings import load_config, say

keys_app = typer.Typer(help="Keys of the endpoint.", no_args_is_help=True)

Lifetime = Annotated[
    str,
    typer.Option("--expires", help="Lifetime, e.g. 90d or 12h; default: no expiry."),
]
KeyId = Annotated[str, typer.Argument(help="Id of the key.")]


@keys_app.command("add")
def keys_add(
    scopes: Annotated[
        str,
        typer.Option("--scopes", help="score,market,accounts,read,venue,approve,admin"),
    ],
    label: Annotated[str, typer.Option("--label", help="What people call it.")] = "",
    expires: Lifetime = "",
    rate_per_minute: Annotated[
        int | None,
        typer.Option(help="Requests a minute; 0: without limit; absent: as configured."),
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Print a new key, once; the JSON names the key and its scopes, never the secret."""
    from ledger.keys import Keys
    from ledger.store import Ledger

    names = [name.strip() for name in scopes.split(",") if name.strip()]
    lifetime = _duration(expires)
    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        key_id, secret = Keys(ledger).add_key(
            names, label=label, lifetime=lifetime, rate_per_minute=rate_per_minute
        )
    _show_once(key_id, secret, {"scopes": names}, json)


@keys_app.command("rotate")
def keys_rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option("--overlap", help="How long the old key still works, e.g. 24h or 0s.")
    ] = "24h",
    expires: Annotated[
        str,
        typer.Option("--expires", help="Lifetime of the new key; default: as the old one."),
    ] = "",
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Print a new key with the scopes of another, which expires after the overlap."""
    from ledger.keys import Keys
    from ledger.store import Ledger

    still, lifetime = (
        0 if overlap.strip("0") == "s" else _duration(overlap) or 0,
        _duration(expires),
    )
    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        new_id, secret = Keys(ledger).rotate(key_id, still, lifetime)
    _show_once(new_id, secret, {"replaces": key_id}, json)


@keys_app.command("list")
def keys_list(config: ConfigFile = None, json: JsonFile = None) -> None:
    """List the keys, never their secrets."""
    import time

    from rich.markup import escape

    from ledger.keys import Keys
    from ledger.store import Ledger
    from market.core.clock import format_time
    from pipelines.reports.report import new_table, print_table, write_json

    def shown(moment: int | None) -> str | None:
        return None if moment is None else format_time(moment)

    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        keys = Keys(ledger).list_keys()
    now = time.time_ns()
    listed: dict[str, dict[str, Any]] = {
        key.key_id: {
            "label": key.label,
            "scopes": list(key.scopes),
            "state": key.state(now),
            "rate_per_minute": key.rate_per_minute,
            "created_at": shown(key.created_at),
            "expires_at": shown(key.expires_at),
            "revoked_at": shown(key.revoked_at),
        }
        for key in keys
    }
    write_json(listed, json)
    table = new_table("keys; --json has all", ("id", "label", "scopes", "state", "expires"), ())
    for key_id, facts in listed.items():
        scopes = ", ".join(facts["scopes"])
        cells = (key_id, facts["label"], scopes, facts["state"], facts["expires_at"] or "never")
        table.add_row(*(escape(cell) for cell in cells))
    print_table(table)


@keys_app.command("revoke")
def keys_revoke(key_id: KeyId, config: ConfigFile = None, json: JsonFile = None) -> None:
    """Revoke a key."""
    from ledger.keys import Keys
    from ledger.store import Ledger
    from pipelines.reports.report import show

    with Ledger(load_config(config).ledger.url, chain="keys") as ledger:
        Keys(ledger).revoke(key_id)
    show("key", {"key_id": key_id, "revoked": True}, json)


def _duration(text: str) -> int | None:
    """Nanoseconds; None of an empty text."""
    from market.core.clock import parse_duration

    return parse_duration(text) if text else None


def _show_once(key_id: str, secret: str, facts: dict[str, Any], json: JsonFile) -> None:
    from pipelines.reports.report import write_json

    write_json({"key_id": key_id, **facts}, json)
    say(secret)
