"""Examples, exit codes and groups of every verb, shown at the end of its help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.models import CommandInfo

_SPAN = "--from 2026-02-01 --to 2026-02-08"

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "run": ("run", "run --once", "run --once --json -"),
    "init": ("init", "init --json -"),
    "data": ("data", "data --accounts mine", "data --accounts mine --as-of 2026-02-16 --json -"),
    "simulate": ("simulate --out simulated",),
    "score": (
        "score --accounts mine --out mine.csv",
        "score --accounts mine --as-of 2026-02-16 --out mine.parquet --explain",
    ),
    "serve": ("serve", "serve --port 8080 --workers 2"),
    "monitor": ("monitor",),
    "warm-up": ("warm-up",),
    "schedule": ("schedule --next 3", "schedule --once"),
    "retrain": ("retrain", "retrain --accept 'stress_8h=one window, reviewed' --json out.json"),
    "evaluate": (
        "evaluate --bundle var/bundles/champion",
        "evaluate --bundle var/bundles/champion --out evaluation.html",
    ),
    "backtest": (
        "backtest --bundle var/bundles/champion --json backtest.json",
        "backtest --bundle var/bundles/champion --out backtest.html",
    ),
    "policy": ("policy --bundle var/bundles/champion --out rules.toml",),
    "review": ("review", "review --out review.html --shadow"),
    "promote": ("promote", "promote --rules 'tiers of March, reviewed'"),
    "rollback": ("rollback",),
    "drift": ("drift", "drift --recorded --json -", "drift --out drift.html"),
    "features": ("features --out features.parquet",),
    "fit-volatility": ("fit-volatility --end 2025-06-30 --out volatility.json",),
    "surface": ("surface chains.parquet --json surfaces.json",),
    "lifecycle": (f"lifecycle --accounts mine {_SPAN}",),
    "margin": ("margin --cases cases.jsonl --out margins.jsonl",),
    "explain": ("explain --cases cases.jsonl --out parts.jsonl --against old.jsonl",),
    "what-if": ("what-if --cases cases.jsonl --out answers.jsonl",),
    "liquidation": ("liquidation --cases cases.jsonl --out prices.jsonl",),
    "rulesets list": ("rulesets list", "rulesets list versions --json -"),
    "rulesets depth": ("rulesets depth depth.parquet --out depth.toml",),
    "rulesets import": ("rulesets import brackets.parquet --out versions",),
    "ledger upgrade": ("ledger upgrade",),
    "ledger verify": ("ledger verify", "ledger verify --heads heads --require-covered 25h"),
    "ledger heads": ("ledger heads --out heads",),
    "ledger keygen": ("ledger keygen",),
    "ledger replay": ("ledger replay DECISION_ID --json -",),
    "ledger archive": ("ledger archive --before 2025-01-01 --out archive",),
    "ledger prune": ("ledger prune",),
    "ledger backup": ("ledger backup --out ledger-copy.db",),
    "keys add": ("keys add --scopes score,read --label desk --expires 90d",),
    "keys list": ("keys list", "keys list --json -"),
    "keys rotate": ("keys rotate KEY_ID --overlap 24h",),
    "keys revoke": ("keys revoke KEY_ID",),
    "report pro-forma": (
        "report pro-forma --rules emir-tiers --out pro-forma.html",
        "report pro-forma --accounts mine --as-of 2026-02-16 --out pro-forma.csv",
    ),
    "report scheduled": ("report scheduled --date 2026-02-15",),
    "report client-statement": (
        f"report client-statement {_SPAN} --account alice --out alice.pdf",
    ),
    "report call-notice": ("report call-notice --call CALL_ID --out notice.html",),
    **{
        f"report {kind}": (f"report {kind} --date 2026-02-15 --out {kind}.html",)
        for kind in ("daily-margin", "calls", "concentration", "overrides")
    },
    **{
        f"report {kind}": (f"report {kind} {_SPAN} --out {kind}.csv",)
        for kind in ("coverage", "procyclicality", "change-events", "audit-extract")
    },
}
"""Command lines of each verb, without the program; capitals stand for an id."""

EXIT_CODES: Mapping[str, str] = {
    "run": "3: a safety gate refused the model",
    "data": "6: an account of --accounts would be refused",
    "score": "5: no decision comes from a model",
    "retrain": "3: a safety gate refused the model",
    "drift": "5: the accounts have drifted",
    "lifecycle": "4: a recorded history differs",
    "ledger verify": "4: the ledger is not intact",
    "ledger heads": "4: the ledger does not contain the previous heads",
    "ledger replay": "4: the record differs",
    "ledger backup": "4: the copy is not intact",
    **dict.fromkeys(("margin", "explain", "what-if", "liquidation"), "2: a case failed"),
}
"""What else a verb ends with, beside `COMMON_CODES`."""

COMMON_CODES: Mapping[str, str] = {
    "0": "done",
    "1": "an error, in one line",
    "2": "options that do not fit",
}
"""Exit codes of every verb."""

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Start": ("run", "init", "data", "simulate"),
    "Decide": ("score", "serve", "monitor", "warm-up", "schedule"),
    "Models": (
        *("retrain", "evaluate", "backtest", "policy", "review", "promote", "rollback", "drift"),
        *("features", "fit-volatility", "surface"),
    ),
    "Rules and margin": ("margin", "explain", "what-if", "liquidation", "lifecycle", "rulesets"),
    "Records and access": ("ledger", "report", "keys"),
}


def add_usage(app: typer.Typer) -> None:
    """Add examples, exit codes and groups to all verbs of an app, and order them by group."""
    order = [name for names in _GROUPS.values() for name in names]
    panel = {name: title for title, names in _GROUPS.items() for name in names}
    for path, command in _commands(app):
        command.epilog = _epilog(path)
        command.rich_help_panel = panel.get(path, command.rich_help_panel)
    for group in app.registered_groups:
        group.rich_help_panel = panel.get(str(group.name), "Other")
    app.registered_commands.sort(
        key=lambda command: order.index(name) if (name := _name(command)) in order else len(order)
    )


def _commands(app: typer.Typer, prefix: str = "") -> Iterator[tuple[str, CommandInfo]]:
    for command in app.registered_commands:
        yield prefix + _name(command), command
    for group in app.registered_groups:
        inner: Any = group.typer_instance
        yield from _commands(inner, f"{prefix}{group.name} ")


def _name(command: CommandInfo) -> str:
    callback: Any = command.callback
    return command.name or callback.__name__.replace("_", "-")


def _epilog(path: str) -> str:
    lines = [f"margincast {line}" for line in EXAMPLES.get(path, ())]
    parts = ["Examples:", *lines] if lines else []
    codes = dict(COMMON_CODES)
    own, _, meaning = EXIT_CODES.get(path, "").partition(": ")
    if own:
        codes[own] = f"{codes[own]}, or {meaning}" if own in codes else meaning
    listed = "; ".join(f"{code} {meaning}" for code, meaning in codes.items())
    parts.append(f"Exit codes: {listed}.")
    return "\n\n".join(parts)
