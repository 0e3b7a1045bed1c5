"""Folders of the data contract as pull sources: ``<SYMBOL>.parquet`` of bars, account files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.accounts.account_files import AccountHistory, read_accounts
from market.core.arrays import Ints
from market.core.errors import DataError
from market.core.instruments import is_symbol
from market.core.parquet_columns import floats, timestamps
from market.sources.base import AT_CLOSE, AccountUpdates, BarKind, BarUpdates

_PRICES = ("open", "high", "low", "close")
_MAX_ROWS = 20_000_000  # ten years of minute bars are 5.3 million


@dataclass(frozen=True, slots=True)
class BarFolder:
    """A folder of ``<SYMBOL>.parquet`` with ts (bar open, UTC), open, high, low, close, volume
    (base units; not needed of marks) and perhaps known_at; and what kind of price it holds."""

    path: Path
    kind: BarKind = "spot"

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def symbols(self, wanted: Sequence[str] = ()) -> Sequence[str]:
        """Symbols of the files, sorted, only the wanted ones (all where none is named).

        Raises
        ------
        DataError
            The folder does not exist, holds no parquet file, or one that is not named for a symbol.
        """
        if not self.path.is_dir():
            raise DataError(f"bar folder {self.path} does not exist; check [market] bars")
        files = {path.stem: path for path in sorted(self.path.glob("*.parquet"))}
        if not files:
            raise DataError(f"bar folder {self.path} holds no <SYMBOL>.parquet file")
        chosen = {name: path for name, path in files.items() if not wanted or name in wanted}
        for name, path in chosen.items():
            if not is_symbol(name):
                raise DataError(
                    f"bar file {path} is not named for a symbol; expected one file a symbol, like "
                    "BTCUSDT.parquet: split it, or name the symbols to read in [market] symbols"
                )
        return tuple(chosen)

    def read(self, symbol: str, start: int | None = None, end: int | None = None) -> BarUpdates:
        """Bars of a symbol that open within start ≤ ts < end, in the order of the file.

        Raises
        ------
        DataError
            The file cannot be read, has no rows or too many, lacks a column, has only closes, or a
            column has another type.
        """
        path = self.path / f"{symbol}.parquet"
        return bars_of_table(symbol, self._table(path), path, start, end)

    def _table(self, path: Path) -> pa.Table:
        needed = bar_columns(self.kind)
        try:
            file = pq.ParquetFile(path)
            present = set(file.schema_arrow.names)
            missing = [name for name in needed if name not in present]
            if missing:
                only = " (close-only files cannot be used)" if "close" in present else ""
                raise DataError(
                    f"{path} lacks the column(s) {', '.join(missing)}{only}; "
                    f"expected {', '.join(needed)}"
                )
            rows = file.metadata.num_rows
            if rows > _MAX_ROWS:
                raise DataError(f"{path} has {rows} rows; the limit is {_MAX_ROWS}")
            table = file.read(columns=[*needed, *({"known_at"} & present)])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as parquet: {error}") from error
        if table.num_rows == 0:
            raise DataError(f"{path} holds no rows; remove the file or fill it")
        return table


def bar_columns(kind: BarKind) -> tuple[str, ...]:
    """Columns that bars of a kind of price need."""
    return ("ts", *_PRICES) if kind == "mark" else ("ts", *_PRICES, "volume")


def bars_of_table(
    symbol: str,
    table: pa.Table,
    origin: Path | str,
    start: int | None = None,
    end: int | None = None,
) -> BarUpdates:
    """Bars of a table with `bar_columns`, of those that open within start ≤ ts < end.

    Raises
    ------
    DataError
        A column has another type; the message names `origin`.
    """
    values = np.zeros((table.num_rows, 5))
    for column, name in enumerate((*_PRICES, "volume")):
        if name in table.column_names:
            values[:, column] = floats(table, name, origin)
    ts = timestamps(table, "ts", origin)
    known = _known_times(table, origin) if "known_at" in table.column_names else None
    if start is None and end is None:
        return BarUpdates(symbol, ts, values, known)
    inside = (ts >= (ts if start is None else start)) & (ts < (ts + 1 if end is None else end))
    known = None if known is None else known[inside]
    return BarUpdates(symbol, ts[inside], values[inside], known)


def _known_times(table: pa.Table, path: Path | str) -> Ints:
    """Column ``known_at`` in nanoseconds, `AT_CLOSE` where it is missing."""
    missing = np.asarray(table["known_at"].is_null().to_numpy(), dtype=np.bool_)
    column = table["known_at"].combine_chunks()
    if missing.all():
        return np.full(len(missing), AT_CLOSE)
    filled = pa.chunked_array([column.fill_null(column.drop_null()[0])])
    known = timestamps(pa.table({"known_at": filled}), "known_at", path)
    return np.where(missing, AT_CLOSE, known)


@dataclass(frozen=True)
class AccountFolder:
    """A folder of account files, see `market.accounts.account_files`; read once.

    `now`, nanoseconds, is the time of the rows of CSV files without ``ts``.
    """

    path: Path
    now: int | None = None

    @cached_property
    def history(self) -> AccountHistory:
        """All accounts over time; raises as `read_accounts`."""
        return read_accounts(self.path, self.now)

    def accounts_at(self, time: int) -> AccountUpdates:
        """All accounts as known at a time, sorted by account id; raises as `read_accounts`."""
        return AccountUpdates(time, self.history.book_at(time))
