"""Frames at the edge: pandas or polars in, checked tables inside, pandas out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import narwhals as nw
import pandas as pd
import pyarrow as pa

from market.core.clock import format_time, parse_time
from market.core.errors import DataError

Frame = Any
"""A pandas or polars DataFrame; anything else is refused by `table_of`."""

Time = str | datetime
"""A time: ISO 8601 text, or a datetime, of which a naive one is UTC."""

_TIMES = pa.timestamp("ns", tz="UTC")
_TEXT_COLUMNS = frozenset(("account_id", "instrument", "asset", "symbol", "kind"))


def table_of(
    frame: Frame, name: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pa.Table:
    """The known columns of a frame as an Arrow table; other columns are left out.

    Parameters
    ----------
    frame:
        A pandas or polars DataFrame.
    name:
        What messages call it.
    required, optional:
        Columns of the data contract.

    Raises
    ------
    DataError
        It is no such frame, lacks a column, names one twice, or mixes types in one.
    """
    native = _native(frame, name)
    missing = [column for column in required if column not in native.columns]
    if missing:
        raise DataError(
            f"{name} lacks the column(s) {', '.join(missing)}; it has "
            f"{', '.join(map(str, native.columns)) or 'none'}, expected {', '.join(required)}"
        )
    wanted = [column for column in (*required, *optional) if column in native.columns]
    return pa.table({column: _array(native, column, name) for column in wanted})


def _native(frame: Frame, name: str) -> nw.DataFrame[Any]:
    native: nw.DataFrame[Any] | None
    try:
        native = nw.from_native(frame, eager_only=True)
    except (TypeError, ValueError) as error:
        if isinstance(frame, pd.DataFrame):
            raise DataError(f"{name}: {error}; give every column a name of its own") from None
        native = None
    if native is None or not (
        native.implementation.is_pandas() or native.implementation.is_polars()
    ):
        kind = type(frame)
        raise DataError(
            f"{name} is a {kind.__module__}.{kind.__qualname__}; expected a pandas or polars "
            "DataFrame"
        )
    return native


def _array(native: nw.DataFrame[Any], column: str, name: str) -> pa.ChunkedArray:
    try:
        if isinstance(series := native.to_native()[column], pd.Series) and isinstance(
            series.dtype, pd.DatetimeTZDtype
        ):  # pyarrow asks pandas for it in a way that pandas is about to change
            array = pa.array(series.dt.tz_convert(None))
            return pa.chunked_array([array.cast(pa.timestamp(array.type.unit, tz="UTC"))])
        array = native.select(column).to_arrow()[column]
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            f"{name}: column {column!r} mixes types ({error}); give all its rows one type"
        ) from None
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_null(array.type):  # no row, or missing in all of them
        empty = _TIMES if column == "ts" else pa.float64()
        return array.cast(pa.large_string() if column in _TEXT_COLUMNS else empty)
    return array


def times_or(table: pa.Table, as_of: int) -> pa.Table:
    """The table with a column ts; where it has none, all its rows are of `as_of`."""
    if "ts" in table.column_names:
        return table
    return table.append_column("ts", pa.array([as_of] * len(table), _TIMES))


def nanoseconds_of(time: Time) -> int:
    """Nanoseconds of a time.

    Raises
    ------
    DataError
        It is no time, or out of range.
    """
    if isinstance(time, datetime):  # a pandas.Timestamp is one
        return parse_time(time.isoformat())
    return parse_time(time)


def time_stamp(nanoseconds: int) -> pd.Timestamp:
    """A time as pandas has it."""
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC")


def by_symbol(bars: Frame | Mapping[str, Frame], name: str) -> dict[str, Frame]:
    """Frames by symbol, of one frame with a column symbol or of a mapping, which is copied."""
    if isinstance(bars, Mapping):
        return dict(bars)
    native = _native(bars, name)
    if "symbol" not in native.columns:
        raise DataError(
            f"{name} lacks the column(s) symbol; it has {', '.join(map(str, native.columns))}; add "
            "it, or give a dict of one frame a symbol"
        )
    faulty = native["symbol"].is_null()
    if faulty.any():
        raise DataError(f"{name}: symbol is missing at row {faulty.arg_true()[0]}; fill it")
    return {
        str(symbol): native.filter(nw.col("symbol") == symbol).to_native()
        for symbol in native["symbol"].unique().to_list()
    }


def known_until(name: str, as_of: int) -> DataError:
    """The error where nothing of a book is known at a time."""
    return DataError(
        f"no account in {name} has a snapshot at or before {format_time(as_of)}; check as_of and "
        "the column ts"
    )
