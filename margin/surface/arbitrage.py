"""Checks for static arbitrage: butterflies within a slice, calendars between two.

Both look at a fine grid that reaches far beyond any quote, and at the slopes that the wings tend
to; what they call free of arbitrage is at least 0 at every point of it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.surface.svi import g_of, w_of

Floats = npt.NDArray[np.float64]

_REACH = 12.0
"""The grid ends at sinh(12), about 80,000 widths of the smile, from its middle."""

_AROUND = 401
_INSIDE = 201


def butterfly_margin(raw: Floats, low: float, high: float) -> float:
    """The least of Durrleman's g over the whole line; negative where there is arbitrage.

    The grid is dense around the smile's middle and, evenly, from `low` to `high`; far out g tends
    to ``1/4 - slope^2 / 16``, which counts as well.

    Reference: Gatheral and Jacquier (2014), Lemma 2.2.
    """
    return float(least_g(np.asarray(raw, dtype=np.float64), low, high, _AROUND, _INSIDE))


def calendar_margin(earlier: Floats, later: Floats, low: float, high: float) -> float:
    """The least of ``w_later(k) - w_earlier(k)`` over the grids of both slices; negative where
    there is arbitrage.

    Where a wing of `later` is flatter than that of `earlier` the two cross somewhere, and the
    margin is minus infinity.

    Reference: Gatheral and Jacquier (2014), Lemma 2.1.
    """
    return float(
        least_gap(
            np.asarray(earlier, dtype=np.float64),
            np.asarray(later, dtype=np.float64),
            low,
            high,
            _AROUND,
            _INSIDE,
        )
    )


@njit(cache=True, error_model="numpy")
def least_g(raw, low, high, around, inside):  # type: ignore[no-untyped-def]
    """`butterfly_margin` for kernels, with so many points around the middle and between."""
    least = np.inf
    for side in (-1.0, 1.0):
        slope = raw[1] * (1.0 + side * raw[2])
        # A flat wing tends to a constant, where g is 1.
        if slope > 0.0:
            least = min(least, 0.25 - slope * slope / 16.0)
    for i in range(around):
        u = _REACH * (2.0 * i / (around - 1) - 1.0)
        least = min(least, g_of(raw, raw[3] + raw[4] * math.sinh(u)))
    for i in range(inside):
        least = min(least, g_of(raw, low + (high - low) * i / (inside - 1)))
    return least


@njit(cache=True, error_model="numpy")
def least_gap(earlier, later, low, high, around, inside):  # type: ignore[no-untyped-def]
    """`calendar_margin` for kernels."""
    for side in (-1.0, 1.0):
        if later[1] * (1.0 + side * later[2]) < earlier[1] * (1.0 + side * earlier[2]):
            return -np.inf
    least = np.inf
    for i in range(around):
        x = math.sinh(_REACH * (2.0 * i / (around - 1) - 1.0))
        for raw in (earlier, later):
            k = raw[3] + raw[4] * x
            least = min(least, w_of(later, k) - w_of(earlier, k))
    for i in range(inside):
        k = low + (high - low) * i / (inside - 1)
        least = min(least, w_of(later, k) - w_of(earlier, k))
    return least
