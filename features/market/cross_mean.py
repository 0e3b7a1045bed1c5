"""A figure that some symbols have: its own for each of them, the mean of theirs for the others."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def fill_cross_mean(values, volatility, out):  # type: ignore[no-untyped-def]
    """Fill `out`, shape (T, S), from `values`, shape (S, T).

    NaN for a symbol in warm-up, whose `volatility` (T, S) is NaN, and where no symbol has a value.
    """
    for t in range(out.shape[0]):
        total, count = 0.0, 0
        for j in range(out.shape[1]):
            if not np.isnan(values[j, t]):
                total += values[j, t]
                count += 1
        mean = total / count if count else np.nan
        for i in range(out.shape[1]):
            if np.isnan(volatility[t, i]):
                out[t, i] = np.nan
            else:
                out[t, i] = mean if np.isnan(values[i, t]) else values[i, t]
