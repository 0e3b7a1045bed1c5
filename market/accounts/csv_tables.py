"""Account files as CSV: text in UTF-8, a comma between cells, a point before decimals.

The first line names the columns. A byte order mark, blanks around cells and empty lines are
ignored. ``ts`` is ISO 8601, without an offset in UTC; a file without the column ``ts`` is one
snapshot of all its accounts at a time that the caller gives. Numbers have no thousands separators.
Every message names file, line and column.

Reference: RFC 4180 (CSV).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from market.core.arrays import Ints
from market.core.clock import parse_time
from market.core.errors import DataError

_NUMBERS = frozenset(("quantity", "entry_price", "amount"))
_OPTIONAL = frozenset(("entry_price",))
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[,' \u00a0\u202f]\d{3})+(?:\.\d*)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d[\d.]*,\d*", re.ASCII)
_SHOWN = 40
"""Longer cells are cut where a message shows them."""


def read_csv(
    path: Path, columns: Collection[str], most_rows: int, now: int | None
) -> tuple[pa.Table, Ints, tuple[str, ...]]:
    """Read the known columns of a file, the line that each row ends on, from 1, and the names of
    the columns that are not read.

    ``ts`` becomes a timestamp in UTC, numbers float64 (an empty ``entry_price`` is null), the rest
    text.

    Parameters
    ----------
    path:
        The file.
    columns:
        Columns to read; others are ignored.
    most_rows:
        A longer file is refused.
    now:
        Nanoseconds that stand for ``ts`` where the file has no such column.

    Raises
    ------
    DataError
        The text is not UTF-8, is separated by something else than commas, or is no CSV; a column
        is named twice; a cell is missing or not what its column holds; ``ts`` is missing and `now`
        is None.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        names = _header(next(reader, []), path)
        chosen = [(i, name) for i, name in enumerate(names) if name in columns]
        cells: list[list[str]] = [[] for _ in chosen]
        lines: list[int] = []
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(row)} cells and the first line "
                    f"{len(names)}; a number such as 1,000 is two cells: write 1000, and put a "
                    "text with a comma between double quotes"
                )
            if len(lines) == most_rows:
                raise DataError(f"{path} has more than {most_rows} rows, which is the limit")
            lines.append(reader.line_num)
            for into, (i, _) in zip(cells, chosen, strict=True):
                into.append(row[i].strip())
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is no CSV: {error}") from None
    made = {
        name: _column(texts, name, lines, path)
        for (_, name), texts in zip(chosen, cells, strict=True)
    }
    if "ts" not in made:
        if now is None:
            raise DataError(
                f"{path} lacks the column 'ts', the time of each row; add it (ISO 8601, such as "
                "2025-04-01T00:00:00Z), or read the file by a verb with --as-of"
            )
        made["ts"] = pa.array(np.full(len(lines), now), pa.timestamp("ns", tz="UTC"))
    ignored = tuple(name for name in names if name not in columns)
    return pa.table(made), np.array(lines, dtype=np.int64), ignored


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16; save it as CSV in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8; save the file as CSV in UTF-8"
        ) from None


def _header(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise DataError(f"{path}: line 1 is empty; it names the columns, such as account_id")
    if len(names) == 1:
        for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in names[0]:
                raise DataError(
                    f"{path}: line 1 is separated by {called}; save the file with commas between "
                    "cells and a point before decimals"
                )
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if twice:
        raise DataError(f"{path}: line 1 names the column {twice[0]!r} twice; keep one")
    return names


def _column(texts: list[str], name: str, lines: list[int], path: Path) -> pa.Array:
    if name not in _OPTIONAL and "" in texts:
        line = lines[texts.index("")]
        hint = " (0 for none)" if name in _NUMBERS else ""
        raise DataError(f"{path}: line {line}, column {name!r} is empty; fill it{hint}")
    if name == "ts":
        known: dict[str, int] = {}
        for text, line in zip(texts, lines, strict=True):
            if text not in known:
                known[text] = _time(text, line, path)
        times = np.array([known[text] for text in texts], dtype=np.int64)
        return pa.array(times, pa.timestamp("ns", tz="UTC"))
    if name not in _NUMBERS:
        return pa.array(texts, pa.string())
    for text, line in zip(texts, lines, strict=True):
        if text and not _NUMBER.fullmatch(text):
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            raise DataError(f"{path}: line {line}, column {name!r} is {shown!r}; {_advice(text)}")
    return pa.array([float(text) if text else None for text in texts], pa.float64())


def _time(text: str, line: int, path: Path) -> int:
    try:
        return parse_time(text)
    except DataError as error:
        raise DataError(f"{path}: line {line}, column 'ts': {error}") from None


def _advice(text: str) -> str:
    if _GROUPED.fullmatch(text):
        return "write it without thousands separators, such as 1000.5"
    if _DECIMAL_COMMA.fullmatch(text):
        return "write a point before decimals and no thousands separators, such as 1000.5"
    return "expected a number such as 1000.5"
