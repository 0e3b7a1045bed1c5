"""A review on the terminal: verdict first, then figures, then what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from pipelines.reports.report import console, new_table, number, print_table

_COLOURS = {"promoted": "green", "kept": "yellow", "refused": "red", "failed": "red"}
MODEL = "margincast"


def review_report(report: Mapping[str, Any]) -> None:
    """Print what `pipelines.registry.review.review` returned."""
    newest, champion = report["newest"], report.get("champion")
    comparison = report.get("comparison")
    colour = _COLOURS.get(newest["verdict"], "white")
    lines = [
        f"[bold {colour}]{escape(newest['verdict'].upper())}[/] version {newest['version']}, "
        f"bundle {newest['bundle'][:12]}, made {newest['created']}"
        + (f", now {' and '.join(newest['aliases'])}" if newest["aliases"] else ""),
        *(f"· {escape(reason)}" for reason in newest["reasons"]),
    ]
    if champion is None:
        lines.append("There is no champion yet.")
    elif comparison is None:
        lines.append("The newest version is the champion itself: there is nothing to compare.")
    else:
        lines.append(
            f"Champion: version {champion['version']}, bundle {champion['bundle'][:12]}, made "
            f"{champion['created']}"
        )
        if not comparison["same_rows"]:
            lines.append("They were evaluated on different rows: only paired gates compare them.")
    warning = report["serving"].get("warning")
    if warning:
        console.print(Panel(escape(warning), title="ALIAS AND SERVING DIFFER", border_style="red"))
    console.print(Panel("\n".join(lines), title="review", border_style=colour))
    console.print(_figures(newest, champion if comparison else None))
    for hours, table in newest["walk_forward"].items():
        low, high = table["log_loss_skill_ci95"] or (None, None)
        console.print(
            f"walk-forward, {hours} h: skill {_percent(table['log_loss_skill'])}, "
            f"{_percent(low)} {_percent(high)} against {table['best_baseline']}"
        )
    if comparison:
        _differences(comparison)
    _gates(newest, champion if comparison else None)
    if "shadow" in report:
        _shadow(report["shadow"])
    if "page" in report:
        console.print(f"page: {escape(report['page']['path'])}", soft_wrap=True)


def _figures(newest: Mapping[str, Any], champion: Mapping[str, Any] | None) -> Table:
    runs = {"newest": newest} if champion is None else {"champion": champion, "newest": newest}
    table = Table(title="figures by horizon")
    table.add_column("h", justify="right")
    table.add_column("model")
    table.add_column("log loss", justify="right", no_wrap=True)
    table.add_column("best baseline", overflow="fold")
    table.add_column("skill, 95% interval", justify="right", no_wrap=True)
    table.add_column("pred/obs", justify="right", no_wrap=True)
    for hours in newest["log_loss"]:
        for role, run in runs.items():
            if hours not in run["log_loss"]:
                continue
            low, high = run["log_loss_skill_ci95"][hours] or (None, None)
            table.add_row(
                hours,
                role,
                number(run["log_loss"][hours][MODEL]),
                run["best_baseline"][hours],
                f"{_percent(run['log_loss_skill'][hours])}, {_percent(low)} {_percent(high)}",
                number(run["predicted_over_observed"][hours]),
            )
        table.add_section()
    return table


def _shadow(shadow: Mapping[str, Any]) -> None:
    """Champion and challenger on recorded decisions."""
    console.print(
        f"shadow: challenger {shadow['challenger'][:12]} scored {shadow['decisions']:,} decisions, "
        f"{shadow['rows']:,} have matured; its add-ons total "
        f"{_percent(shadow['add_on']['change'])} against the champion's"
    )
    if "reason" in shadow:
        console.print(f"  {escape(shadow['reason'])}", soft_wrap=True)
        return
    table = new_table(
        "log loss on matured decisions", ("h",), ("calls", "champion", "challenger", "skill, 95%")
    )
    for hours, figures in shadow["horizons"].items():
        low, high = figures["skill_ci95"] or (None, None)
        table.add_row(
            hours,
            str(figures["positives"]),
            number(figures["log_loss"]["champion"]),
            number(figures["log_loss"]["challenger"]),
            f"{_percent(figures['skill'])}, {_percent(low)} {_percent(high)}",
        )
    print_table(table)


def _differences(comparison: Mapping[str, Any]) -> None:
    if comparison["paired"]:
        table = new_table("on the same rows", ("gate",), ("skill against the champion",))
        table.add_column("result")
        for name, gate in comparison["paired"].items():
            table.add_row(name, _percent(gate["value"]), _mark(gate["passed"]))
        print_table(table)
    if comparison["differences"]:
        table = new_table("differences of their inputs", ("what", "champion", "newest"), ())
        for item in comparison["differences"]:
            cells = (item["what"], item["champion"], item["challenger"])
            table.add_row(*map(escape, cells))
        print_table(table)


def _gates(newest: Mapping[str, Any], champion: Mapping[str, Any] | None) -> None:
    before = champion["gates"] if champion else {}
    shown = {
        name: passed
        for name, passed in newest["gates"].items()
        if not passed or before.get(name, passed) != passed
    }
    passed = sum(newest["gates"].values())
    console.print(f"gates: {passed} of {len(newest['gates'])} passed")
    for name, result in shown.items():
        earlier = f" (champion: {_mark(before[name])})" if name in before else ""
        accepted = newest["accepted"].get(name)
        who = f"; accepted by {accepted['by']}: {accepted['reason']}" if accepted else ""
        console.print(f"  {_mark(result)} {escape(name + who)}{earlier}")


def _mark(passed: bool) -> str:
    return "[green]passed[/]" if passed else "[red]failed[/]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2%}"
