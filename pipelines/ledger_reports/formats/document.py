"""A report: title, facts, tables and charts, free of any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | bool | None

MOST_ROWS = 500
"""Rows of a table that HTML and PDF show; CSV, Parquet and JSON hold all."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns.

    Attributes
    ----------
    name:
        Identifier: letters, digits and underscores.
    title:
        What the rows are.
    columns:
        Name of each column, as in the ledger and over HTTP.
    rows:
        Cells, each row as long as `columns`; None: not known or undefined. NaN is no cell.
    note:
        What a reader has to know of the figures.
    data_only:
        Columns that HTML and PDF leave out, as too long to read.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    data_only: frozenset[str] = frozenset()

    def shown(self) -> tuple[tuple[str, ...], list[list[Cell]]]:
        """Columns and the first `MOST_ROWS` rows as people read them."""
        places = [i for i, name in enumerate(self.columns) if name not in self.data_only]
        rows = [[row[i] for i in places] for row in self.rows[:MOST_ROWS]]
        return tuple(self.columns[i] for i in places), rows

    def caption(self) -> str:
        """The title, and how many rows are shown where not all are."""
        if len(self.rows) <= MOST_ROWS:
            return self.title
        return f"{self.title} (first {MOST_ROWS:,} of {len(self.rows):,} rows)"


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines or bars over labels.

    Attributes
    ----------
    name, title:
        As of a table.
    labels:
        Of the points, from left to right.
    series:
        One value a label by the name of the series; None: a gap.
    bars:
        Whether they are bars.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    series: Mapping[str, Sequence[float | None]]
    bars: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One report.

    Attributes
    ----------
    kind, title:
        What it is.
    facts:
        What identifies and summarises it: span, heads of the chains that it rests on, rules, model.
    tables:
        Its tables; `main` names the one that a CSV or Parquet file of the report's name holds.
    notes:
        Sentences for the reader.
    """

    kind: str
    title: str
    facts: Mapping[str, Cell]
    tables: tuple[Table, ...]
    main: str
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()

    def all_facts(self) -> dict[str, Cell]:
        """The facts with the number of rows of each table."""
        rows = {f"rows_{table.name}": len(table.rows) for table in self.tables}
        return {"report": self.kind, **self.facts, **rows}

    def to_dict(self) -> dict[str, Any]:
        """Plain values: facts, notes, and each table as objects."""
        return {
            **self.all_facts(),
            "title": self.title,
            "notes": list(self.notes),
            "tables": {
                table.name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
                for table in self.tables
            },
        }


def cell_text(cell: Cell) -> str:
    """A cell as people read it: numbers with separators, small ones to four digits."""
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 10_000.0 else f"{cell:,.4g}"
    return cell


def is_numeric(cell: Cell) -> bool:
    """Whether a cell is a number, and so stands to the right."""
    return isinstance(cell, int | float) and not isinstance(cell, bool)
