"""Results as tables on the terminal and as JSON files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from market.bars.quality import FAULTS
from market.core.files import replace_file
from market.core.redaction import redact, redact_all

console = Console(color_system=None if os.environ.get("NO_COLOR") else "auto")

STDOUT = Path("-")
"""Stands for stdout where the file of ``--json`` is given."""

_METRICS = ("auc", "average_precision", "brier_skill", "log_loss", "ece_over_base_rate")
_UNCOVERED_FIGURES = ("uncovered", "breach_rate", "ratio_to_flat", "ratio_to_best_simple")
_CALL_FIGURES = (
    *("calls", "needed", "in_vain", "prevented_breaches", "missed_breaches"),
    *("collected", "median_lead_hours", "flips_per_account_day"),
)


def write_json(report: Mapping[str, Any], path: Path | None) -> None:
    """Write a report as JSON, free of credentials, to a file or `STDOUT`; None writes nothing."""
    if path is None:
        return
    content = json_bytes(report)
    if path == STDOUT:
        sys.stdout.write(content.decode())
    else:
        replace_file(path, content)


def json_bytes(report: Mapping[str, Any]) -> bytes:
    """A report as JSON, free of credentials."""
    text = json.dumps(redact_all(report), indent=2, allow_nan=False, default=str)
    return text.encode() + b"\n"


def bars_line(bars: Mapping[str, Any]) -> None:
    """Print faults of the bars in one line; nothing where there are none."""
    counts = {
        name: sum(file[name] for file in bars["files"])
        for name in FAULTS
        if name not in ("unsorted", "incomplete", "stale")
    }
    counts["mix-ups"] = sum(pair["verdict"] == "mix-up" for pair in bars["agreements"])
    faults = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if faults:
        rows = sum(file["rows"] for file in bars["files"])
        console.print(
            f"bars: {faults} in {rows:,} rows of {len(bars['files'])} files (see margincast data)"
        )


def evaluation_tables(report: Mapping[str, Any]) -> None:
    """Print the metrics of every model, one table a horizon."""
    start, end = report["span"]
    console.print(
        f"{report['rows']:,} rows, {start} to {end}; dropped: {_text(report['dropped'], 1)}"
    )
    for hours, figures in report["horizons"].items():
        low, high = figures["log_loss_skill_ci95"] or (float("nan"), float("nan"))
        table = new_table(
            f"{hours} h: base rate {figures['base_rate']:.3%}, skill against "
            f"{figures['best_baseline']} {figures['log_loss_skill']:+.2%} "
            f"[{low:+.2%}, {high:+.2%}]",
            ("model",),
            [metric.replace("_", " ") for metric in _METRICS],
            padding=(0, 0),
        )
        for name, values in figures["models"].items():
            table.add_row(name, *(number(values and values[metric]) for metric in _METRICS))
        print_table(table)


def retrain_tables(report: Mapping[str, Any]) -> None:
    """Print the evaluation and the verdict of a retraining."""
    evaluation_tables(report["evaluation"])
    found = {k: report[k] for k in ("verdict", "reasons", "bundle", "champion")}
    seconds = {stage: round(spent, 1) for stage, spent in report["seconds"].items()}
    facts("retrain", {**found, "seconds": seconds})


def backtest_tables(report: Mapping[str, Any]) -> None:
    """Print uncovered loss at each budget, and the calls at the middle one."""
    found = report["uncovered"]
    console.print(
        f"{report['account_hours']:,} account-hours, {report['span'][0]} to {report['span'][1]}; "
        f"best simple estimate {found['best_simple']}"
    )
    for budget in found["budgets"]:
        title = (
            f"uncovered loss at average add-on {budget['average_add_on']:.2%} of notional "
            f"(flat covers {budget['flat_coverage']:.0%})"
        )
        table = new_table(title, ("policy",), (*_UNCOVERED_FIGURES, "95% interval"))
        for policy, figures in budget["policies"].items():
            low, high = figures["ratio_to_best_simple_ci95"] or (None, None)
            cells = (number(figures[name]) for name in _UNCOVERED_FIGURES)
            mark = "" if figures["matched"] else " (unmatched)"
            table.add_row(policy + mark, *cells, f"{number(low)} to {number(high)}")
        print_table(table)
    table = new_table("calls from where accounts stand", ("policy",), _CALL_FIGURES)
    for policy, figures in report["calls"]["policies"].items():
        table.add_row(policy, *(number(figures[name]) for name in _CALL_FIGURES))
    print_table(table)


def drift_table(report: Mapping[str, Any]) -> None:
    """Print the monitors that are not stable, and how many are; the JSON holds all."""
    if report["verdict"] == "unavailable":
        console.print(escape(f"drift: unavailable, {report['reason']}"))
        return
    monitors = report["monitors"].values()
    shown = [monitor for monitor in monitors if monitor["verdict"] != "stable"]
    span = report["current"]
    names = ("reference", "current", "effect", "floor", "p_holm")
    table = new_table(
        f"drift: {report['verdict']}; {len(monitors) - len(shown)} of {len(monitors)} "
        f"monitors stable, {span['rows']} rows, {span['span'][0]} to {span['span'][1]}",
        ("monitor", "kind"),
        names,
    )
    table.add_column("verdict", overflow="fold")
    for monitor in shown:
        cells = (number(monitor[name]) for name in names)
        table.add_row(monitor["name"], monitor["kind"], *cells, monitor["verdict"])
    print_table(table)


def drift_line(drift: Mapping[str, Any] | None, change: Mapping[str, Any] | None) -> None:
    """Print the champion's drift and the challenger's changes, a line each if there is one."""
    if drift is not None:
        detail = ", ".join(drift["drifted"]) or drift.get("reason", "")
        line = f"drift of the champion: {drift['verdict']}{detail and f' ({detail})'}"
        console.print(escape(line))
    if change is not None and change["material"] is not None:
        add_on, total = change["add_on_over_initial_margin"], change["total_requirement"]
        console.print(
            f"{'material change' if change['material'] else 'change'} on {change['accounts']} "
            f"accounts: total requirement {total['change']:+.2%}, add-on median "
            f"{add_on['median']:+.2%} of initial margin, 95% within {add_on['q95_absolute']:.2%}"
        )


def facts(title: str, values: Mapping[str, Any]) -> None:
    """Print named values; the names are those of the JSON."""
    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a digest is printed whole
    for name, value in values.items():
        table.add_row(escape(name), escape(redact(_text(value))))
    console.print(table)


def _text(value: Any, depth: int = 0) -> str:
    """A value as a person reads it; entries of the outermost list or mapping stand in lines."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.12g}"
        case Mapping():
            colon = " " if depth else ": "
            entries = [f"{name}{colon}{_text(entry, depth + 1)}" for name, entry in value.items()]
        case list() | tuple():
            entries = [_text(entry, depth + 1) for entry in value]
        case _:
            return str(value)
    if depth > 1 and entries:
        return f"({', '.join(entries)})"
    return (", " if depth else "\n").join(entries) or "none"


def show(title: str, report: Mapping[str, Any], path: Path | None) -> None:
    """Print a report as named values and write it as JSON."""
    facts(title, report)
    write_json(report, path)


def new_table(title: str, texts: Sequence[str], numbers: Sequence[str], **style: Any) -> Table:
    """A table with columns of text, then columns of numbers; long cells are folded, never cut."""
    table = Table(title=title, **style)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print a table of `new_table`; numbers that do not fit side by side go into further parts,
    each with the columns of text, so that no number is cut or wrapped."""
    texts = [column for column in table.columns if column.justify != "right"]
    waiting = [column for column in table.columns if column.justify == "right"]
    for column in waiting:
        words = [word for cell in column.cells for word in str(cell).split()]
        words += str(column.header).split()
        column.width = max((cell_len(word) for word in words), default=1)
    title = table.title
    while True:
        shown = 0
        while shown < len(waiting):
            part = _of_columns(table, title, [*texts, *waiting[: shown + 1]])
            if shown and part.__rich_measure__(console, console.options).minimum > console.width:
                break
            shown += 1
        console.print(_of_columns(table, title, [*texts, *waiting[:shown]]))
        waiting, title = waiting[shown:], None
        if not waiting:
            return


def _of_columns(table: Table, title: Any, columns: Sequence[Column]) -> Table:
    part = Table(title=title, padding=table.padding)
    for column in columns:
        part.add_column(column.header, justify=column.justify, overflow="fold", width=column.width)
    for cells in zip(*(column.cells for column in columns), strict=True):
        part.add_row(*cells)
    return part


def number(value: float | None) -> str:
    """A number to four significant digits; a dash for None."""
    return "-" if value is None else f"{value:.4g}"
