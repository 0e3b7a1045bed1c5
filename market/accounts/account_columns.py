"""Columns of account files as arrays: checked, with the first row at fault named in the error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market.accounts.account_tables import AccountTable
from market.core.arrays import Floats, Ints
from market.core.errors import DataError
from market.core.parquet_columns import timestamps


def _column(file: AccountTable, name: str) -> pa.ChunkedArray:
    if name not in file.table.column_names:
        present = ", ".join((*file.table.column_names, *file.ignored))
        raise DataError(
            f"{file.path} lacks the column {name!r}; it has {present}: rename or add it"
        )
    return file.table[name]


def times(file: AccountTable) -> Ints:
    """The column ts in nanoseconds, shape (n,); raises `DataError` where one is missing."""
    _column(file, "ts")
    return timestamps(file.table, "ts", file.path)


def strings(file: AccountTable, name: str) -> tuple[pa.Array, Ints]:
    """Distinct values of a text column, and the index of each row's value, int64, shape (n,).

    Raises
    ------
    DataError
        The column is missing, of another type or no UTF-8, or a value is missing or empty.
    """
    column = _column(file, name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"{file.path}: column {name!r} is {column.type}, expected strings")
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{file.path}: column {name!r} is damaged: {error}; write it again"
        ) from None
    encoded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    faulty = codes < 0
    empty = pc.index(encoded.dictionary, pa.scalar("", pa.large_string())).as_py()
    if empty >= 0:
        faulty |= codes == empty
    if faulty.any():
        place = file.place(int(np.argmax(faulty)))
        raise DataError(f"{file.path}: {name} is missing at {place}; fill it")
    return encoded.dictionary, codes


def sorted_union(parts: Sequence[pa.Array]) -> pa.Array:
    """Distinct strings of all parts in the order of their UTF-8 bytes, which is that of Python."""
    distinct = pc.unique(pa.concat_arrays(parts))
    return distinct.take(pc.array_sort_indices(distinct))


def recode(names: pa.Array, codes: Ints, target: pa.Array) -> Ints:
    """The same rows as indices into `target`, which holds every name; int64, shape (n,)."""
    place = pc.index_in(names, value_set=target).to_numpy(zero_copy_only=False)
    return np.asarray(place, dtype=np.int64)[codes]


def _floats(file: AccountTable, name: str) -> Floats:
    column = _column(file, name)
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"{file.path}: column {name!r} is {kind}, expected numbers")
    values = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    return np.asarray(values, dtype=np.float64)


def numbers(file: AccountTable, name: str) -> Floats:
    """A column of finite numbers, shape (n,); raises `DataError` at the first that is not."""
    values = _floats(file, name)
    faulty = ~np.isfinite(values)
    if faulty.any():
        row = int(np.argmax(faulty))
        raise DataError(
            f"{file.path}: {name} is {values[row]} at {file.place(row)}; expected a finite number "
            "(0 for none)"
        )
    return values


def prices(file: AccountTable) -> Floats:
    """The column entry_price, shape (n,), NaN where there is none; refuses 0, less and infinity."""
    values = _floats(file, "entry_price")
    faulty = ~np.isnan(values) & ~(np.isfinite(values) & (values > 0.0))
    if faulty.any():
        row = int(np.argmax(faulty))
        raise DataError(
            f"{file.path}: entry_price is {values[row]} at {file.place(row)}; expected a positive "
            "price, or none where the position enters at the mark"
        )
    return values
