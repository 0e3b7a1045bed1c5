"""Where the fit of a slice starts: the best of a net of (m, sigma), the rest in closed form.

Given m and sigma, SVI is linear: ``w = a + left L(k) + right R(k)`` with the slopes of the two
wings and ``L, R = (sqrt((k - m)^2 + sigma^2) -+ (k - m)) / 2``. The slopes lie in a box, so that
the weighted least squares problem within it is solved exactly, edge by edge.

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
def starts(x, w, weight, low, high, bands):  # type: ignore[no-untyped-def]
    """The best (v, left, right, m, ln sigma) in each of so many bands of width, with its cost.

    `x`, `w` and `weight` are scaled moneyness, total variance and weight of each point; `v` is
    the lowest total variance. `low` and `high` bound the parameters; m and sigma are of the net.
    """
    best = np.empty((bands, 5))
    cost = np.full(bands, np.inf)
    first, last = x.min(), x.max()
    reach = max(last - first, 1e-3)
    for i in range(WIDTHS):
        sigma = NARROWEST * (WIDEST / NARROWEST) ** (i / (WIDTHS - 1))
        band = i * bands // WIDTHS
        for j in range(CENTRES):
            m = first - 0.25 * reach + 1.5 * reach * j / (CENTRES - 1)
            a, left, right, error = _inner(x, w, weight, m, sigma, low, high)
            if error < cost[band]:
                cost[band] = error
                v = max(a + sigma * math.sqrt(left * right), low[0])
                best[band] = np.array([v, left, right, m, math.log(sigma)])
    return best, cost


@njit(cache=True, error_model="numpy")
def _inner(x, w, weight, m, sigma, low, high):  # type: ignore[no-untyped-def]
    """Best (a, left, right) with the slopes in the box, and its weighted error."""
    total = mw = ml = mr = 0.0
    for i in range(len(x)):
        y = x[i] - m
        root = math.sqrt(y * y + sigma * sigma)
        total += weight[i]
        mw += weight[i] * w[i]
        ml += weight[i] * 0.5 * (root - y)
        mr += weight[i] * 0.5 * (root + y)
    mw, ml, mr = mw / total, ml / total, mr / total
    ll = lr = rr = lw = rw = 0.0
    for i in range(len(x)):
        y = x[i] - m
        root = math.sqrt(y * y + sigma * sigma)
        to_left = 0.5 * (root - y) - ml
        to_right = 0.5 * (root + y) - mr
        ll += weight[i] * to_left * to_left
        lr += weight[i] * to_left * to_right
        rr += weight[i] * to_right * to_right
        lw += weight[i] * to_left * (w[i] - mw)
        rw += weight[i] * to_right * (w[i] - mw)
    det = ll * rr - lr * lr
    left = right = -1.0
    if det > 1e-14 * ll * rr:
        left = (rr * lw - lr * rw) / det
        right = (ll * rw - lr * lw) / det
    if not (low[1] <= left <= high[1] and low[2] <= right <= high[2]):
        left, right = _edge(ll, lr, rr, lw, rw, low, high)
    a = mw - left * ml - right * mr
    error = 0.0
    for i in range(len(x)):
        y = x[i] - m
        root = math.sqrt(y * y + sigma * sigma)
        miss = a + 0.5 * (left * (root - y) + right * (root + y)) - w[i]
        error += weight[i] * miss * miss
    return a, left, right, error


@njit(cache=True, error_model="numpy")
def _edge(ll, lr, rr, lw, rw, low, high):  # type: ignore[no-untyped-def]
    """Best slopes on the rim of the box."""
    best = np.inf
    at_left, at_right = low[1], low[2]
    for edge in range(4):
        if edge < 2:
            left = low[1] if edge == 0 else high[1]
            right = (rw - lr * left) / rr if rr > 0.0 else low[2]
        else:
            right = low[2] if edge == 2 else high[2]
            left = (lw - lr * right) / ll if ll > 0.0 else low[1]
        left = min(max(left, low[1]), high[1])
        right = min(max(right, low[2]), high[2])
        error = ll * left * left + 2.0 * lr * left * right + rr * right * right
        error -= 2.0 * (lw * left + rw * right)
        if error < best:
            best, at_left, at_right = error, left, right
    return at_left, at_right
