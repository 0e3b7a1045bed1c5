"""A report as data files: the main table under the name given, the others beside it.

``margin.csv`` holds the main table, ``margin.<table>.csv`` each other one and ``margin.facts.csv``
the facts; with ``.parquet`` alike, where the facts also stand in the metadata of every file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.canonical import canonical_bytes
from market.core.csv_cells import csv_cell
from pipelines.ledger_reports.formats.document import Cell, Report, Table

METADATA = b"margincast"
"""Key of a Parquet file's metadata with the facts as canonical JSON."""


def csv_files(report: Report, path: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file of a report as CSV, cells as `market.core.csv_cells.csv_cell` writes them."""
    for file, table in _files(report, path):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([csv_cell(cell) for cell in row] for row in table.rows)
        yield file, text.getvalue().encode()


def parquet_files(report: Report, path: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file of a report as Parquet; the same report gives the same bytes under one pyarrow."""
    facts = canonical_bytes(report.all_facts())
    for file, table in _files(report, path):
        columns = [[row[i] for row in table.rows] for i in range(len(table.columns))]
        arrays = [_array(column) for column in columns]
        made = pa.table(dict(zip(table.columns, arrays, strict=True)))
        sink = io.BytesIO()
        pq.write_table(made.replace_schema_metadata({METADATA: facts}), sink, compression="zstd")
        yield file, sink.getvalue()


def _files(report: Report, path: Path) -> Iterator[tuple[Path, Table]]:
    facts = list(report.all_facts().items())
    for table in (*report.tables, Table("facts", "Facts", ("name", "value"), facts)):
        main = table.name == report.main
        yield path if main else path.with_suffix(f".{table.name}{path.suffix}"), table


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return repr(cell) if isinstance(cell, float) else str(cell)


def _array(column: Sequence[Cell]) -> pa.Array:
    """A column of one type; where cells are of several, as in a table of figures, of text."""
    kinds = {type(cell) for cell in column if cell is not None}
    if kinds == {bool}:
        return pa.array(column, pa.bool_())
    if kinds == {int}:
        return pa.array(column, pa.int64())
    if kinds and kinds <= {int, float}:
        return pa.array(column, pa.float64())
    return pa.array([None if cell is None else _text(cell) for cell in column], pa.string())
