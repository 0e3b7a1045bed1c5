"""The pro-forma report on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.pro_forma.page import introduction, summary_tables
from pipelines.reports.report import console, new_table, print_table


def pro_forma_tables(report: Mapping[str, Any]) -> None:
    """Print the object of ``report pro-forma --json``."""
    console.print(introduction(report), markup=False)
    parts = {"day one": report["day_one"], "end of the phase-in": report["end_of_phase_in"]}
    for name, part in parts.items():
        if part is None:
            continue
        for title, head, rows in summary_tables(part):
            table = new_table(f"{name}: {title}", [str(head[0])], [str(cell) for cell in head[1:]])
            for row in rows:
                table.add_row(*(str(cell) for cell in row))
            print_table(table)
    console.print(f"written to {report['out']}", markup=False)
