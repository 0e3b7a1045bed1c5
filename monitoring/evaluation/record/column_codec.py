"""Columns of numbers as they are kept in a record: deflated, to the last bit."""

from __future__ import annotations

import binascii
import math
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.errors import AlteredError

Columns = Mapping[str, npt.NDArray[Any]]

_LEVEL = 1
"""Columns are numbers, most of them without pattern: a higher level costs time for few bytes."""


def encode_columns(columns: Columns) -> dict[str, Any]:
    """Columns of any shape by name in plain form, little endian; `decode_columns` reads it.

    Bytes of the same place in each number stand together, which deflates better.
    """
    return {name: _encoded(column) for name, column in columns.items()}


def _encoded(column: npt.NDArray[Any]) -> dict[str, Any]:
    fixed = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
    raw = fixed.reshape(-1).view(np.uint8).reshape(-1, fixed.dtype.itemsize)
    data = zlib.compress(np.ascontiguousarray(raw.T).tobytes(), _LEVEL)
    return {
        "dtype": fixed.dtype.str,
        "shape": list(fixed.shape),
        "data": b64encode(data).decode("ascii"),
    }


def decode_columns(encoded: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The columns that `encode_columns` made.

    Raises
    ------
    AlteredError
        They are not what it makes.
    """
    try:
        return {name: _decoded(column) for name, column in encoded.items()}
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise AlteredError(_unreadable(error)) from error


def _decoded(column: Mapping[str, Any]) -> npt.NDArray[Any]:
    planes, shape = _planes(column), column["shape"]
    return _numbers(planes, np.dtype(column["dtype"])).reshape(shape)


def _planes(column: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The bytes of a column: row b has byte b of each number."""
    raw = zlib.decompress(b64decode(column["data"], validate=True))
    return np.frombuffer(raw, dtype=np.uint8).reshape(np.dtype(column["dtype"]).itemsize, -1)


def _numbers(planes: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)


def decode_row(encoded: Mapping[str, Any], names: Sequence[str], row: int) -> list[Any]:
    """The entries of one row in some columns that `encode_columns` made, in the order of `names`.

    Other columns are not decoded. A number for a column of shape (N,), a list for (N, …).

    Raises
    ------
    AlteredError
        They are not what it makes, or have no such row.
    """
    try:
        return [_entry(encoded[name], row) for name in names]
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise AlteredError(_unreadable(error)) from error


def _entry(column: Mapping[str, Any], row: int) -> Any:
    count, *rest = column["shape"]
    if not 0 <= row < count:
        raise ValueError(f"row {row} of {count}")
    width = math.prod(rest)
    part = _planes(column)[:, row * width : (row + 1) * width]
    return _numbers(part, np.dtype(column["dtype"])).reshape(rest).tolist()


def find_name(encoded: Mapping[str, Any], name: str) -> int | None:
    """Row of an id in the column ``names`` of `encode_names`; None where it is not there.

    Raises
    ------
    AlteredError
        There is no such column, or it is not what `encode_columns` makes.
    """
    try:
        text = b"\n%b\n" % _planes(encoded["names"]).tobytes()
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise AlteredError(_unreadable(error)) from error
    place = text.find(b"\n%b\n" % name.encode())
    return None if place < 0 else text.count(b"\n", 0, place)


def _unreadable(error: Exception) -> str:
    return (
        f"columns of an evaluation cannot be read ({error!r}): the record was altered, or a newer "
        "version wrote it; verify the ledger"
    )


def encode_names(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Account ids as a column: no id holds a line feed."""
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def decode_names(column: npt.NDArray[np.uint8]) -> list[str]:
    """The ids that `encode_names` made a column of."""
    text = column.tobytes().decode()
    return text.split("\n") if text else []
