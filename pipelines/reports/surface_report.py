"""Fitted surfaces as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports.report import console, new_table, print_table

_COLUMNS = (
    ("tenor", "tenor", ""),
    ("slices", "slices", "d"),
    ("failed", "failed", "d"),
    ("width", "width_median", ".2%"),
    ("rmse", "rmse_median", ".2%"),
    ("error", "error_median", ".2f"),
    ("inside", "inside_median", ".0%"),
    ("marks inside", "marks_inside_median", ".0%"),
    ("butterflies", "butterflies_before", "d"),
    ("calendars", "calendars_before", "d"),
    ("moved", "moved", "d"),
)


def surface_tables(report: Mapping[str, Any]) -> None:
    """Print one table an exchange (medians of its slices by tenor, errors in half widths,
    arbitrage before the repair), then each failure."""
    for file in report["files"]:
        table = new_table(
            f"{file['exchange']}: {file['slices']} slices of {file['quality']['rows']:,} "
            f"rows in {file['seconds']:.1f} s",
            (),
            [name for name, _, _ in _COLUMNS],
            padding=(0, 0),
        )
        for line in report["summary"]:
            if line["exchange"] == file["exchange"]:
                cells = (
                    "-" if line[key] is None else format(line[key], form)
                    for _, key, form in _COLUMNS
                )
                table.add_row(*cells)
        print_table(table)
    arbitrage = sum(
        line["butterflies_after"] + line["calendars_after"] for line in report["summary"]
    )
    failed = [entry for entry in report["slices"] if entry["failure"] is not None]
    console.print(f"{arbitrage} slices with arbitrage after repair, {len(failed)} failed")
    for entry in failed[:20]:
        console.print(
            f"{entry['exchange']} {entry['underlying']} {entry['snapshot']} to {entry['expiry']}: "
            f"{entry['failure']}",
            markup=False,
        )
    if len(failed) > 20:
        console.print(f"and {len(failed) - 20} more; --json lists them all")
