"""Where the fit of a slice starts: the best of a net of (m, sigma), the rest in closed form.

Given m and sigma, SVI is linear: ``w = a + d y + c sqrt(y^2 + 1)`` with ``y = (k - m) / sigma``,
``c = b sigma``, ``d = rho c``. Its domain in (c, d) is a diamond, so that the weighted least
squares problem within it is solved exactly, edge by edge.

Reference: De Marco and Martini (2009), "Quasi-explicit calibration of Gatheral's SVI model",
Zeliade Systems.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

CENTRES = 17
WIDTHS = 15
NARROWEST, WIDEST = 0.03, 20.0
"""The net: middles across the quotes and beyond, widths evenly in logarithm."""


@njit(cache=True, error_model="numpy")
def starts(x, w, weight, steepest, lowest, bands):  # type: ignore[no-untyped-def]
    """The best (v, left, right, m, ln sigma) in each of so many bands of width, with its cost.

    `x`, `w` and `weight` are scaled moneyness, total variance and weight of each point; `v` is
    the lowest total variance, `left` and `right` the slopes of the wings.
    """
    best = np.empty((bands, 5))
    cost = np.full(bands, np.inf)
    low, high = x.min(), x.max()
    reach = max(high - low, 1e-3)
    for i in range(WIDTHS):
        sigma = NARROWEST * (WIDEST / NARROWEST) ** (i / (WIDTHS - 1))
        band = i * bands // WIDTHS
        for j in range(CENTRES):
            m = low - 0.25 * reach + 1.5 * reach * j / (CENTRES - 1)
            a, c, d, error = _inner(x, w, weight, m, sigma, steepest * sigma)
            if error < cost[band]:
                cost[band] = error
                v = max(a + math.sqrt(max(c * c - d * d, 0.0)), lowest)
                best[band] = np.array([v, (c - d) / sigma, (c + d) / sigma, m, math.log(sigma)])
    return best, cost


@njit(cache=True, error_model="numpy")
def _inner(x, w, weight, m, sigma, steepest):  # type: ignore[no-untyped-def]
    """Best (a, c, d) with ``|d| <= c`` and ``c + |d| <= steepest``, and its weighted error."""
    total = mw = my = mz = 0.0
    for i in range(len(x)):
        y = (x[i] - m) / sigma
        total += weight[i]
        mw += weight[i] * w[i]
        my += weight[i] * y
        mz += weight[i] * math.sqrt(y * y + 1.0)
    mw, my, mz = mw / total, my / total, mz / total
    yy = yz = zz = yw = zw = 0.0
    for i in range(len(x)):
        y = (x[i] - m) / sigma
        z = math.sqrt(y * y + 1.0) - mz
        y -= my
        yy += weight[i] * y * y
        yz += weight[i] * y * z
        zz += weight[i] * z * z
        yw += weight[i] * y * (w[i] - mw)
        zw += weight[i] * z * (w[i] - mw)
    det = yy * zz - yz * yz
    c = d = -1.0
    if det > 1e-14 * yy * zz:
        c = (yy * zw - yz * yw) / det
        d = (zz * yw - yz * zw) / det
    if not (abs(d) <= c and c + abs(d) <= steepest):
        c, d = _edge(yy, yz, zz, yw, zw, 0.5 * steepest)
    a = mw - d * my - c * mz
    error = 0.0
    for i in range(len(x)):
        y = (x[i] - m) / sigma
        miss = a + d * y + c * math.sqrt(y * y + 1.0) - w[i]
        error += weight[i] * miss * miss
    return a, c, d, error


@njit(cache=True, error_model="numpy")
def _edge(yy, yz, zz, yw, zw, half):  # type: ignore[no-untyped-def]
    """Best (c, d) on the rim of the diamond (0, 0), (h, h), (2h, 0), (h, -h)."""
    best = np.inf
    at_c = at_d = 0.0
    for corner in range(4):
        c0, d0 = _corner(corner, half)
        c1, d1 = _corner((corner + 1) % 4, half)
        dc, dd = c1 - c0, d1 - d0
        bend = zz * dc * dc + 2.0 * yz * dc * dd + yy * dd * dd
        fall = (zw - zz * c0 - yz * d0) * dc + (yw - yz * c0 - yy * d0) * dd
        t = min(max(fall / bend, 0.0), 1.0) if bend > 0.0 else 0.0
        c, d = c0 + t * dc, d0 + t * dd
        error = zz * c * c + 2.0 * yz * c * d + yy * d * d - 2.0 * (zw * c + yw * d)
        if error < best:
            best, at_c, at_d = error, c, d
    return at_c, at_d


@njit(cache=True, error_model="numpy")
def _corner(corner, half):  # type: ignore[no-untyped-def]
    if corner == 0:
        return 0.0, 0.0
    if corner == 1:
        return half, half
    if corner == 2:
        return 2.0 * half, 0.0
    return half, -half
