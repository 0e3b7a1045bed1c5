"""Weighted least squares on an SVI slice, with arbitrage as a penalty.

Levenberg-Marquardt within bounds, on parameters that the data tell apart: (v, left, right, m,
ln sigma) with the lowest variance v and the slopes of the two wings in place of a, b and rho.
Moneyness is in units of ``sqrt(w0)`` and variance in units of ``w0``, so that an expiry of hours
and one of a year are the same problem.

Reference: Nocedal and Wright (2006), "Numerical Optimization", ch. 10.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from market.core.arrays import Floats

PARAMETERS = 5
_GRID = 101
_NODES = np.sinh(np.linspace(-9.0, 9.0, _GRID))
_TOLERANCE = 1e-13
_STEP = 1e-6


@njit(cache=True, error_model="numpy")
def scaled_raw(p):  # type: ignore[no-untyped-def]
    """Raw parameters, in scaled units, of (v, left, right, m, ln sigma)."""
    sigma = math.exp(p[4])
    b = 0.5 * (p[1] + p[2])
    rho = 0.0 if b <= 0.0 else 0.5 * (p[2] - p[1]) / b
    return np.array([p[0] - sigma * math.sqrt(p[1] * p[2]), b, rho, p[3], sigma])


class SliceProblem(NamedTuple):
    """A slice to fit, in scaled units.

    Attributes
    ----------
    x, vol, deviation:
        Scaled moneyness, vol and deviation of each point, shape (P,).
    unit, w0:
        Vol and total variance at the money.
    low, high:
        Bounds of the parameters, shape (5,).
    earlier, later:
        Raw parameters of the slices before and after, scaled; b < 0: none.
    butterfly, calendar:
        Weight of the penalty, and the distance from arbitrage that it aims at.
    """

    x: Floats
    vol: Floats
    deviation: Floats
    unit: float
    w0: float
    low: Floats
    high: Floats
    earlier: Floats
    later: Floats
    butterfly: Floats
    calendar: Floats


@njit(cache=True, error_model="numpy")
def refine(problem, start, iterations):  # type: ignore[no-untyped-def]
    """The parameters that fit best from `start` on, within the bounds, and their cost.

    Residuals: ``(unit sqrt(w) - vol) / deviation`` of each point; butterfly[0] times what g lacks
    to butterfly[1] on a grid; calendar[0] times what w lacks to `earlier` and has above `later`
    with a distance of calendar[1].
    """
    low, high = problem.low, problem.high
    p = np.minimum(np.maximum(start, low), high)
    count = len(problem.x) + 3 * _GRID
    residual, trial = np.empty(count), np.empty(count)
    jacobian = np.empty((count, PARAMETERS))
    forward, backward = np.empty(count), np.empty(count)
    cost = _fill(problem, p, residual)
    damping = 1e-3
    for _ in range(iterations):
        for j in range(PARAMETERS):
            step = _STEP * max(abs(p[j]), 1e-3)
            up, down = p.copy(), p.copy()
            up[j] = min(p[j] + step, high[j])
            down[j] = max(p[j] - step, low[j])
            _fill(problem, up, forward)
            _fill(problem, down, backward)
            apart = up[j] - down[j]
            for i in range(count):
                jacobian[i, j] = (forward[i] - backward[i]) / apart if apart > 0.0 else 0.0
        gradient, normal = _normal_equations(jacobian, residual)
        improved = False
        for _ in range(12):
            q = _step_to(p, gradient, normal, damping, low, high)
            tried = _fill(problem, q, trial)
            if tried < cost:
                improved = True
                break
            damping *= 4.0
        if not improved:
            break
        gain = cost - tried
        p, cost = q, tried
        residual, trial = trial, residual
        damping = max(damping / 8.0, 1e-12)
        if gain <= _TOLERANCE * (cost + _TOLERANCE):
            break
    return p, cost


@njit(cache=True, error_model="numpy")
def _fill(problem, p, out):  # type: ignore[no-untyped-def]
    """Residuals into `out`; their sum of squares."""
    butterfly, calendar = problem.butterfly, problem.calendar
    raw = scaled_raw(p)
    n = len(problem.x)
    for i in range(n):
        y = problem.x[i] - raw[3]
        w = raw[0] + raw[1] * (raw[2] * y + math.sqrt(y * y + raw[4] * raw[4]))
        vol = problem.unit * math.sqrt(max(w, 0.0))
        out[i] = (vol - problem.vol[i]) / problem.deviation[i]
    for i in range(n, len(out)):
        out[i] = 0.0
    spread = 1.0 / math.sqrt(_GRID)
    if butterfly[0] > 0.0:
        for i in range(_GRID):
            g = _scaled_g(raw, raw[3] + raw[4] * _NODES[i], problem.w0)
            out[n + i] = butterfly[0] * spread * max(butterfly[1] - g, 0.0)
    if calendar[0] > 0.0:
        for i in range(_GRID):
            at = _NODES[i]
            w = _w(raw, at)
            if problem.earlier[1] >= 0.0:
                lack = _w(problem.earlier, at) * (1.0 + calendar[1]) + calendar[1] - w
                out[n + _GRID + i] = calendar[0] * spread * max(lack, 0.0) / max(w, 1.0)
            if problem.later[1] >= 0.0:
                excess = w * (1.0 + calendar[1]) + calendar[1] - _w(problem.later, at)
                out[n + 2 * _GRID + i] = calendar[0] * spread * max(excess, 0.0) / max(w, 1.0)
    cost = 0.0
    for i in range(len(out)):
        cost += out[i] * out[i]
    return cost


@njit(cache=True, error_model="numpy")
def _w(raw, x):  # type: ignore[no-untyped-def]
    y = x - raw[3]
    return raw[0] + raw[1] * (raw[2] * y + math.sqrt(y * y + raw[4] * raw[4]))


@njit(cache=True, error_model="numpy")
def _scaled_g(raw, x, w0):  # type: ignore[no-untyped-def]
    """Durrleman's g in scaled units: only the lone quarter sees the scale."""
    y = x - raw[3]
    root = math.sqrt(y * y + raw[4] * raw[4])
    w = raw[0] + raw[1] * (raw[2] * y + root)
    first = raw[1] * (raw[2] + y / root)
    second = raw[1] * raw[4] * raw[4] / (root * root * root)
    bend = 1.0 - 0.5 * x * first / w
    return bend * bend - 0.25 * first * first * (1.0 / w + 0.25 * w0) + 0.5 * second


@njit(cache=True, error_model="numpy")
def _normal_equations(jacobian, residual):  # type: ignore[no-untyped-def]
    gradient = np.zeros(PARAMETERS)
    normal = np.zeros((PARAMETERS, PARAMETERS))
    for i in range(len(residual)):
        for j in range(PARAMETERS):
            slope = jacobian[i, j]
            if slope != 0.0:
                gradient[j] += slope * residual[i]
                for k in range(j + 1):
                    normal[j, k] += slope * jacobian[i, k]
    for j in range(PARAMETERS):
        for k in range(j):
            normal[k, j] = normal[j, k]
    return gradient, normal


@njit(cache=True, error_model="numpy")
def _step_to(p, gradient, normal, damping, low, high):  # type: ignore[no-untyped-def]
    """The damped step, cut to the bounds; what a bound holds stays where it is."""
    a = normal.copy()
    right = -gradient
    largest = 0.0
    for j in range(PARAMETERS):
        largest = max(largest, normal[j, j])
    for j in range(PARAMETERS):
        held = (p[j] <= low[j] and gradient[j] > 0.0) or (p[j] >= high[j] and gradient[j] < 0.0)
        if held or normal[j, j] <= 0.0:
            for k in range(PARAMETERS):
                a[j, k] = a[k, j] = 0.0
            a[j, j] = 1.0
            right[j] = 0.0
        else:
            a[j, j] += damping * max(normal[j, j], 1e-12 * largest)
    for j in range(PARAMETERS):  # Gauss without pivots: the matrix is positive definite
        for i in range(j + 1, PARAMETERS):
            factor = a[i, j] / a[j, j]
            for k in range(j, PARAMETERS):
                a[i, k] -= factor * a[j, k]
            right[i] -= factor * right[j]
    step = np.zeros(PARAMETERS)
    for j in range(PARAMETERS - 1, -1, -1):
        rest = right[j]
        for k in range(j + 1, PARAMETERS):
            rest -= a[j, k] * step[k]
        step[j] = rest / a[j, j]
    return np.minimum(np.maximum(p + step, low), high)
