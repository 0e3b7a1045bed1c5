"""Tables of account files: ``<name>.parquet`` or ``<name>.csv`` of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from market.accounts.csv_tables import read_csv
from market.core.arrays import Ints
from market.core.errors import DataError

MAX_ROWS = 20_000_000
"""Largest number of rows in one file."""

COLUMNS = frozenset(
    ("ts", "account_id", "instrument", "quantity", "entry_price", "asset", "amount", "kind")
)
"""Columns that account files may have; others are ignored."""


@dataclass(frozen=True, slots=True)
class AccountTable:
    """One file as a table.

    Attributes
    ----------
    path:
        The file, or what messages call a table that is in none.
    table:
        Its rows, of the columns `COLUMNS`.
    lines:
        The line of each row in a CSV file, from 1, int64, shape (n,); None for Parquet.
    ignored:
        Names of further columns of the file, which are not read.
    """

    path: Path | str
    table: pa.Table
    lines: Ints | None = None
    ignored: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Where a row stands, for a message: its line in a CSV file, else its number from 0."""
        return f"row {row}" if self.lines is None else f"line {self.lines[row]}"


def load_table(folder: Path, name: str, now: int | None = None) -> AccountTable | None:
    """Read ``<name>.parquet`` or ``<name>.csv`` of a folder; None where there is neither.

    Parameters
    ----------
    folder:
        The folder.
    name:
        ``positions``, ``collateral`` or ``events``.
    now:
        Time in nanoseconds of all rows of a CSV file without the column ``ts``.

    Raises
    ------
    DataError
        Both files exist; the file cannot be read or has more than `MAX_ROWS` rows; or a CSV file
        is not as `market.accounts.csv_tables` says.
    """
    parquet, text = folder / f"{name}.parquet", folder / f"{name}.csv"
    if parquet.exists() and text.exists():
        raise DataError(
            f"{folder} has {parquet.name} and {text.name}; keep one of them, as they would be two "
            "answers to one question"
        )
    if text.exists():
        return AccountTable(text, *read_csv(text, COLUMNS, MAX_ROWS, now))
    return _read_parquet(parquet) if parquet.exists() else None


def _read_parquet(path: Path) -> AccountTable:
    try:
        with pq.ParquetFile(path) as file:
            rows = file.metadata.num_rows
            if rows > MAX_ROWS:
                raise DataError(f"{path} has {rows} rows; the limit is {MAX_ROWS}")
            names = file.schema_arrow.names
            table = file.read(columns=[name for name in names if name in COLUMNS])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    return AccountTable(path, table, ignored=tuple(n for n in names if n not in COLUMNS))
