"""A rolling mean over the last `window` bars, one state row per symbol.

State row: position, filled slots, valid slots, sum, then the ring of `window` slots. A slot may
be NaN (nothing observed); it counts as filled, not as valid. The sum is recomputed whenever the
ring wraps, which keeps rounding from building up, at a constant cost per bar.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from market.core.clock import Interval

HEADER = 4


def state_size(hours: float) -> Callable[[Interval], int]:
    """Width of the state of a window of so many hours."""
    return lambda interval: HEADER + bars_in(hours, interval)


def bars_in(hours: float, interval: Interval) -> int:
    """Bars in so many hours."""
    return int(hours * interval.per_hour)


def window_params(hours: float) -> Callable[[Interval], tuple[float, ...]]:
    """Kernel arguments of a window: its length in bars."""
    return lambda interval: (bars_in(hours, interval),)


def window_and_rate(
    hours: float, rate_hours: float = 1.0
) -> Callable[[Interval], tuple[float, ...]]:
    """Kernel arguments of a window: its length in bars, and the bars of `rate_hours`."""
    return lambda interval: (bars_in(hours, interval), rate_hours * interval.per_hour)


@njit(cache=True, error_model="numpy")
def clear(row):  # type: ignore[no-untyped-def]
    """Forget everything."""
    row[:] = 0.0


@njit(cache=True, error_model="numpy")
def push(row, window, value):  # type: ignore[no-untyped-def]
    """Put one value into the ring."""
    position = int(row[0])
    slot = HEADER + position
    if row[1] == window:
        old = row[slot]
        if not np.isnan(old):
            row[2] -= 1.0
            row[3] -= old
    else:
        row[1] += 1.0
    row[slot] = value
    if not np.isnan(value):
        row[2] += 1.0
        row[3] += value
    position += 1
    if position == window:
        position = 0
        total = 0.0
        for i in range(HEADER, HEADER + window):
            if not np.isnan(row[i]):
                total += row[i]
        row[3] = total
    row[0] = position


@njit(cache=True, error_model="numpy")
def mean(row, window):  # type: ignore[no-untyped-def]
    """Mean of the valid slots; NaN until the window is full or while under half is valid."""
    if row[1] < window or 2.0 * row[2] < window:
        return np.nan
    return row[3] / row[2]


@njit(cache=True, error_model="numpy")
def root(variance, scale):  # type: ignore[no-untyped-def]
    """``sqrt(scale * variance)``, NaN for NaN; rounding can leave a variance just below zero."""
    return np.sqrt(scale * max(variance, 0.0)) if variance == variance else np.nan


@njit(cache=True, error_model="numpy")
def fold_mean(values, resets, state, out, window):  # type: ignore[no-untyped-def]
    """The rolling mean itself, down the bars of every symbol; all arrays of shape (S, T)."""
    for s in range(values.shape[0]):
        row = state[s]
        for t in range(values.shape[1]):
            if resets[s, t] == 1.0:
                clear(row)
            push(row, window, values[s, t])
            out[s, t] = mean(row, window)


@njit(cache=True, error_model="numpy")
def fold_root_mean(variances, resets, state, out, window, scale):  # type: ignore[no-untyped-def]
    """`root` of `scale` times the rolling mean of one-bar variances; arrays of shape (S, T)."""
    fold_mean(variances, resets, state, out, window)
    for s in range(out.shape[0]):
        for t in range(out.shape[1]):
            out[s, t] = root(out[s, t], scale)
