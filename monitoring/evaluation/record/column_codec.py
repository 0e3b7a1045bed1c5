"""Columns of numbers as they are kept in a record: deflated, to the last bit."""

from __future__ import annotations

import binascii
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
        raise AlteredError(
            f"columns of an evaluation cannot be read ({error}): the record was altered, or a "
            "newer version wrote it; verify the ledger"
        ) from error


def _decoded(column: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype = np.dtype(column["dtype"])
    raw = np.frombuffer(zlib.decompress(b64decode(column["data"], validate=True)), dtype=np.uint8)
    planes = np.ascontiguousarray(raw.reshape(dtype.itemsize, -1).T)
    numbers: npt.NDArray[Any] = planes.reshape(-1).view(dtype).reshape(column["shape"])
    return numbers


def encode_names(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Account ids as a column: no id holds a line feed."""
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def decode_names(column: npt.NDArray[np.uint8]) -> list[str]:
    """The ids that `encode_names` made a column of."""
    text = column.tobytes().decode()
    return text.split("\n") if text else []
