"""Hand-made bar files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.core.clock import HOUR, parse_time

START = parse_time("2025-01-01T00:00:00Z")

BarsTable = Callable[..., pa.Table]
WriteBars = Callable[[Path, str, pa.Table], Path]


@pytest.fixture(scope="session")
def start() -> int:
    """Open of the first bar."""
    return START


@pytest.fixture(scope="session")
def bars_table() -> BarsTable:
    """Make a table of sound bars: closes 100, 101, … one unit inside high and low, volume 10."""

    def make(count: int, step: int = HOUR, start: int = START, level: float = 100.0) -> pa.Table:
        close = level + np.arange(count, dtype=np.float64)
        opens = start + step * np.arange(count, dtype=np.int64)
        return pa.table(
            {
                "ts": pa.array(opens, pa.timestamp("ns", tz="UTC")),
                "open": close - 0.5,
                "high": close + 1.0,
                "low": close - 1.0,
                "close": close,
                "volume": np.full(count, 10.0),
            }
        )

    return make


@pytest.fixture(scope="session")
def write_bars() -> WriteBars:
    """Write a table as ``<SYMBOL>.parquet`` into a folder."""

    def write(folder: Path, symbol: str, table: pa.Table) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{symbol}.parquet"
        pq.write_table(table, path)
        return path

    return write


@pytest.fixture(scope="session")
def change() -> Callable[[pa.Table, str, dict[int, float]], pa.Table]:
    """Replace single cells of a column."""

    def changed(table: pa.Table, column: str, cells: dict[int, float]) -> pa.Table:
        values = table[column].to_pylist()
        for row, value in cells.items():
            values[row] = value
        field = table.schema.field(column)
        at = table.schema.get_field_index(column)
        return table.set_column(at, field, pa.array(values, field.type))

    return changed
