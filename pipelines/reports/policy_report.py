"""The choice of p* on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reports.report import facts, new_table, print_table

_BASIS_POINTS = 1e4


def policy_tables(report: Mapping[str, Any]) -> None:
    """Print the frontier and the cost of both spans, and the choice.

    Parameters
    ----------
    report:
        The object of ``policy --json``.
    """
    for name in ("calibration", "test"):
        span = report[name]
        begin, end = span["span"]
        part = "chosen on" if name == "calibration" else "reported only"
        table = new_table(
            f"{name} span ({part}), {begin} to {end}, {span['account_hours']:,} account-hours; "
            "cost in basis points of gross notional a year",
            (),
            (
                *("p* times", "add-on", "calls", "saved", "missed"),
                *("uncov.", "cost", "change", "low", "high"),
            ),
        )
        for point, cost in zip(span["points"], span["cost"], strict=True):
            table.add_row(
                f"{point['factor']:.3g}",
                f"{_number(point['average_add_on']):.1%}",
                f"{_number(point['calls_per_account_year']):.0f}",
                f"{point['prevented_breaches']:,}",
                f"{point['missed_breaches']:,}",
                f"{_number(point['uncovered']):.3%}",
                f"{_BASIS_POINTS * cost['total']:.0f}",
                *_change(cost["difference"], cost["difference_ci95"]),
            )
        print_table(table)
    table = new_table(
        "what other costs would choose; change in basis points of gross notional a year",
        (),
        ("collateral", "call", "uncovered", "p* times", "cheapest", "change", "low", "high"),
    )
    for row in report["sensitivity"]:
        table.add_row(
            *(f"{cost:.4g}" for cost in row["costs"].values()),
            f"{row['factor']:.3g}",
            f"{row['cheapest']:.3g}",
            *_change(row["difference"], row["interval"]),
        )
    print_table(table)
    choice = report["choice"]
    shown = {
        "p*": choice["p_star"],
        "factor": choice["factor"],
        "cheapest factor": choice["cheapest"],
        "incumbent kept": choice["kept"],
        "cheapest is at the edge of the grid": choice["at_edge"],
    }
    facts("policy", {**shown, **report.get("written", {})})


def _change(difference: float, interval: Sequence[float] | None) -> list[str]:
    bounds = interval or (float("nan"),) * 2
    return [f"{_BASIS_POINTS * value:+.0f}" for value in (difference, *bounds)]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
