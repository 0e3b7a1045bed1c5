"""Rolling means of several quantities that are known together, one state row per symbol.

What `features.market.rolling` is for one quantity: a slot holds one number of each, and is valid
where the first of them is not NaN. State row: position, filled slots, valid slots, the sums, then
the ring of slots. The sums are recomputed whenever the ring wraps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from features.market.rolling import bars_in
from market.core.clock import Interval

HEADER = 3


def state_size(hours: float, quantities: int) -> Callable[[Interval], int]:
    """Width of the state of a window of so many hours."""
    return lambda interval: HEADER + quantities * (1 + bars_in(hours, interval))


@njit(cache=True, error_model="numpy")
def push(row, window, values):  # type: ignore[no-untyped-def]
    """Put one tuple of numbers into the ring."""
    k = len(values)
    first = HEADER + k
    position = int(row[0])
    slot = first + position * k
    if row[1] < window:
        row[1] += 1.0
    elif not np.isnan(row[slot]):
        row[2] -= 1.0
        for i in range(k):
            row[HEADER + i] -= row[slot + i]
    if np.isnan(values[0]):
        row[slot] = np.nan
    else:
        row[2] += 1.0
        for i in range(k):
            row[slot + i] = values[i]
            row[HEADER + i] += values[i]
    position += 1
    if position == window:
        position = 0
        row[HEADER:first] = 0.0
        for start in range(first, first + k * window, k):
            if not np.isnan(row[start]):
                for i in range(k):
                    row[HEADER + i] += row[start + i]
    row[0] = position


@njit(cache=True, error_model="numpy")
def count(row, window):  # type: ignore[no-untyped-def]
    """Valid slots; NaN until the window is full or while under half is valid, so that a mean
    ``row[HEADER + i] / count`` is NaN too."""
    if row[1] < window or 2.0 * row[2] < window:
        return np.nan
    return row[2]
