"""Results as tables on the terminal and as JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from market.bars.quality import FAULTS
from market.core.files import replace_file
from market.core.redaction import redact, redact_all

console = Console()

_METRICS = ("auc", "average_precision", "brier_skill", "log_loss", "ece_over_base_rate")


def write_json(report: Mapping[str, Any], path: Path | None) -> None:
    """Write a report where it was asked for, without credentials; NaN has no place in it."""
    if path is not None:
        text = json.dumps(redact_all(report), indent=2, allow_nan=False, default=str)
        replace_file(path, text.encode() + b"\n")


def bars_line(bars: Mapping[str, Any]) -> None:
    """What was found wrong in the bars, in one line; nothing where nothing was."""
    found = {
        name: sum(file[name] for file in bars["files"])
        for name in FAULTS
        if name not in ("unsorted", "incomplete", "stale")
    }
    found["mix-ups"] = sum(pair["verdict"] == "mix-up" for pair in bars["agreements"])
    wrong = ", ".join(f"{count:,} {name}" for name, count in found.items() if count)
    if wrong:
        rows = sum(file["rows"] for file in bars["files"])
        console.print(
            f"bars: {wrong} in {rows:,} rows of {len(bars['files'])} files (see margincast data)"
        )


def evaluation_tables(report: Mapping[str, Any]) -> None:
    """Every model's figures, one table a horizon."""
    start, end = report["span"]
    console.print(f"{report['rows']} rows, {start} to {end}, dropped {report['dropped']}")
    for hours, figures in report["horizons"].items():
        low, high = figures["log_loss_skill_ci95"] or (float("nan"), float("nan"))
        table = Table(
            padding=(0, 0),
            title=f"{hours} h: base rate {figures['base_rate']:.3%}, skill against "
            f"{figures['best_baseline']} {figures['log_loss_skill']:+.2%} "
            f"[{low:+.2%}, {high:+.2%}]",
        )
        table.add_column("model", no_wrap=True)
        for name in _METRICS:
            table.add_column(name.replace("_", " "), justify="right", overflow="fold")
        for name, values in figures["models"].items():
            cells = [_cell(values and values[metric]) for metric in _METRICS]
            table.add_row(name, *cells)
        console.print(table)


def backtest_table(report: Mapping[str, Any]) -> None:
    """Every policy at the budget."""
    table = Table(title=f"add-on policies at average margin {report['budget']:.4f}")
    names = (
        "average_margin",
        "average_collected",
        "breaches",
        "shortfall",
        "calls_issued",
        "calls_in_vain",
        "coverage",
        "peak_to_trough",
    )
    table.add_column("policy")
    for name in names:
        table.add_column(name, justify="right")
    for policy, figures in report["policies"].items():
        mark = "" if figures["matched"] else " (unmatched)"
        table.add_row(policy + mark, *(_cell(figures.get(name)) for name in names))
    console.print(table)


def drift_table(report: Mapping[str, Any]) -> None:
    """Monitors that are not stable, and how many are; the rest is in the JSON."""
    if report["verdict"] == "unavailable":
        console.print(escape(f"drift: unavailable, {report['reason']}"))
        return
    monitors = report["monitors"].values()
    shown = [monitor for monitor in monitors if monitor["verdict"] != "stable"]
    span = report["current"]
    table = Table(
        title=f"drift: {report['verdict']}; {len(monitors) - len(shown)} of {len(monitors)} "
        f"monitors stable, {span['rows']} rows, {span['span'][0]} to {span['span'][1]}"
    )
    names = ("reference", "current", "effect", "floor", "p_holm")
    for name in ("monitor", "kind", *names, "verdict"):
        table.add_column(name, justify="right" if name in names else "left", overflow="fold")
    for monitor in shown:
        cells = (_cell(monitor[name]) for name in names)
        table.add_row(monitor["name"], monitor["kind"], *cells, monitor["verdict"])
    console.print(table)


def drift_line(drift: Mapping[str, Any] | None, change: Mapping[str, Any] | None) -> None:
    """Champion's drift and what the challenger changes, a line each; nothing without a champion."""
    if drift is not None:
        found = ", ".join(drift["drifted"]) or drift.get("reason", "")
        said = f"drift of the champion: {drift['verdict']}{found and f' ({found})'}"
        console.print(escape(said))
    if change is not None and change["material"] is not None:
        add_on, total = change["add_on_over_initial_margin"], change["total_requirement"]
        console.print(
            f"{'material change' if change['material'] else 'change'} on {change['accounts']} "
            f"accounts: total requirement {total['change']:+.2%}, add-on median "
            f"{add_on['median']:+.2%} of initial margin, 95% within {add_on['q95_absolute']:.2%}"
        )


def facts(title: str, values: Mapping[str, Any]) -> None:
    """A few named values."""
    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a digest that is cut is of no use
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        table.add_row(escape(name), escape(redact(text)))
    console.print(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
