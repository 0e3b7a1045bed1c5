"""Columns of parquet tables as arrays, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market.core.arrays import Floats, Ints
from market.core.clock import END_OF_TIME, FIRST_TIME, TIME_RANGE, format_time
from market.core.errors import DataError


def timestamps(table: pa.Table, name: str, path: Path | str) -> Ints:
    """A column of time stamps as nanoseconds; any unit, naive ones are UTC.

    Raises
    ------
    DataError
        The column is not a time stamp, has missing values, or holds a time beyond
        `market.core.clock.TIME_RANGE`.
    """
    column = table[name]
    if not pa.types.is_timestamp(column.type):
        raise DataError(f"{path}: column {name!r} is {column.type}, expected a timestamp in UTC")
    if column.null_count:
        first = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(
            f"{path}: column {name!r} has {column.null_count} missing values, the first in row "
            f"{first}"
        )
    try:
        nanoseconds = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path}: column {name!r} holds times that do not fit into nanoseconds; expected "
            f"{TIME_RANGE}: {error}"
        ) from error
    times = np.array(_values(nanoseconds), dtype=np.int64)
    beyond = np.flatnonzero((times < FIRST_TIME) | (times >= END_OF_TIME))
    if len(beyond):
        raise DataError(
            f"{path}: column {name!r} holds {format_time(int(times[beyond[0]]))} in row "
            f"{beyond[0]}; expected {TIME_RANGE}"
        )
    return times


def floats(table: pa.Table, name: str, path: Path | str) -> Floats:
    """A column of numbers as float64, missing ones as NaN.

    Raises
    ------
    DataError
        The column holds no numbers.
    """
    column = table[name]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DataError(f"{path}: column {name!r} is {column.type}, expected numbers")
    return np.array(_values(column.cast(pa.float64(), safe=False)), dtype=np.float64)


def _values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Values of a column of numbers, missing ones as NaN."""
    values = column.combine_chunks()
    if values.null_count:
        return np.asarray(values.to_numpy(zero_copy_only=False))
    return np.from_dlpack(values)  # where pandas is installed, to_numpy imports it: 0.2 s
