"""Compressed sparse rows, the legs of each account: sums in a fixed order, and chosen rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def row_sums(start: Ints, values: Floats) -> Floats:
    """Sum of each row, from its first value to its last.

    One account alone therefore sums to the same bits as within any book, which the pairwise
    sums of ``np.add.reduceat`` do not promise.

    Parameters
    ----------
    start:
        Offsets, shape (N + 1,): row i is ``values[start[i]:start[i + 1]]``.
    values:
        Shape (L,); NaN and infinities pass on.

    Returns
    -------
    Shape (N,); 0 for an empty row.
    """
    sums: Floats = _row_sums(start, values)
    return sums


def row_entries(start: Ints, index: Ints) -> tuple[Ints, Ints]:
    """Offsets and entries of chosen rows, in the order given, shapes (len(index) + 1,) and (E,)."""
    counts = start[index + 1] - start[index]
    chosen = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return chosen, np.arange(chosen[-1]) + np.repeat(start[index] - chosen[:-1], counts)


@njit(cache=True)
def _row_sums(start, values):  # type: ignore[no-untyped-def]
    sums = np.zeros(start.shape[0] - 1)
    for i in range(sums.shape[0]):
        for leg in range(start[i], start[i + 1]):
            sums[i] += values[leg]
    return sums
