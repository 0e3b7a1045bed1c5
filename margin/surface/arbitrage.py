"""Checks for static arbitrage: butterflies within a slice, calendars between two.

Both look at a grid that is dense where the smile bends and reaches far beyond any quote, at every
dip between its points, and at what the wings tend to.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from margin.surface.svi import durrleman, variance
from market.core.arrays import Floats

_REACH = 12.0
"""The grid ends at sinh(12), about 80,000 widths of the smile, from its middle."""

_NODES = 301
_SECTIONS = 40
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)


def butterfly_margin(raw: Floats) -> float:
    """The least of Durrleman's g over the whole line; negative where there is arbitrage.

    Far out g tends to ``1/4 - slope^2 / 16``, which counts as well.

    Reference: Gatheral and Jacquier (2014), Lemma 2.2.
    """
    return float(least_g(np.asarray(raw, dtype=np.float64)))


def calendar_margin(earlier: Floats, later: Floats) -> float:
    """The least of ``w_later(k) - w_earlier(k)`` over the grids of both slices; negative where
    there is arbitrage.

    Where a wing of `later` is flatter than that of `earlier` the two cross somewhere, and the
    margin is minus infinity.

    Reference: Gatheral and Jacquier (2014), Lemma 2.1.
    """
    earlier, later = np.asarray(earlier, dtype=np.float64), np.asarray(later, dtype=np.float64)
    return float(least_gap(earlier, later))


@njit(cache=True, error_model="numpy")
def least_g(raw):  # type: ignore[no-untyped-def]
    """`butterfly_margin` for kernels."""
    least = np.inf
    for side in (-1.0, 1.0):
        slope = raw[1] * (1.0 + side * raw[2])
        # A flat wing tends to a constant, where g is 1.
        if slope > 0.0:
            least = min(least, 0.25 - slope * slope / 16.0)
    return min(least, _least(raw, raw, raw, False))


@njit(cache=True, error_model="numpy")
def least_gap(earlier, later):  # type: ignore[no-untyped-def]
    """`calendar_margin` for kernels."""
    for side in (-1.0, 1.0):
        if later[1] * (1.0 + side * later[2]) < earlier[1] * (1.0 + side * earlier[2]):
            return -np.inf
    return min(_least(earlier, earlier, later, True), _least(later, earlier, later, True))


@njit(cache=True, error_model="numpy")
def _least(around, earlier, later, gap):  # type: ignore[no-untyped-def]
    """The least of g or of the gap on the grid of one slice and in the dips between its points."""
    step = 2.0 * _REACH / (_NODES - 1)
    least = before = _at(-_REACH, around, earlier, later, gap)
    here = _at(step - _REACH, around, earlier, later, gap)
    for i in range(1, _NODES - 1):
        u = step * i - _REACH
        after = _at(u + step, around, earlier, later, gap)
        least = min(least, here)
        if here <= before and here <= after:
            least = min(least, _dip(u - step, u + step, around, earlier, later, gap))
        before, here = here, after
    return min(least, here)


@njit(cache=True, error_model="numpy")
def _dip(low, high, around, earlier, later, gap):  # type: ignore[no-untyped-def]
    """The lowest value met in a golden section search."""
    left = high - _GOLDEN * (high - low)
    right = low + _GOLDEN * (high - low)
    at_left = _at(left, around, earlier, later, gap)
    at_right = _at(right, around, earlier, later, gap)
    least = min(at_left, at_right)
    for _ in range(_SECTIONS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = _at(left, around, earlier, later, gap)
            least = min(least, at_left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = _at(right, around, earlier, later, gap)
            least = min(least, at_right)
    return least


@njit(cache=True, error_model="numpy")
def _at(u, around, earlier, later, gap):  # type: ignore[no-untyped-def]
    k = around[3] + around[4] * math.sinh(u)
    if gap:
        return variance(later, k) - variance(earlier, k)
    return durrleman(earlier, k)
