"""Search for the first place on a path of numbers where a condition holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_INSIDE = 16
"""Points computed at once within an interval: engines margin many portfolios faster than one."""

_ROUNDS = 16
"""17 ** 16 is beyond what float64 can tell apart."""

_SPREAD = 15
_FAR = 2.0 ** np.arange(2, 20, 3)
_NEAR = np.concatenate([-_FAR[::-1], np.arange(-2.0, 3.0), _FAR])
"""Distances from the estimated place, in units of the last place."""


def first_true(holds: Callable[[Floats], Bools], path: Floats) -> tuple[float, float] | None:
    """Find where `holds` first becomes true on a path, to the last bits.

    Tests the points of the path in order, then divides the step to the first that holds. What is
    true only between two neighbouring points of the path is missed.

    Parameters
    ----------
    holds:
        Condition on an array of any length.
    path:
        Rising or falling, shape (P,), P ≥ 2.

    Returns
    -------
    The last number where it does not hold, and the first where it does; equal when it holds at the
    start of the path; None when nowhere.
    """
    true_at = np.flatnonzero(holds(path))
    if not len(true_at):
        return None
    first = int(true_at[0])
    if first == 0:
        return float(path[0]), float(path[0])
    before, after = float(path[first - 1]), float(path[first])
    for _ in range(_ROUNDS):
        inside = np.linspace(before, after, _INSIDE + 2)
        inside = inside[(inside != before) & (inside != after)]
        if not len(inside):
            break
        true_at = np.flatnonzero(holds(inside))
        k = int(true_at[0]) if len(true_at) else len(inside)
        before = float(inside[k - 1]) if k > 0 else before
        after = float(inside[k]) if k < len(inside) else after
    return before, after


def first_nonnegative(
    values: Callable[[Floats], Floats], path: Floats
) -> tuple[float, float] | None:
    """Find where a function first becomes 0 or more on a path, to the last bits.

    As `first_true` with the condition ``values(x) >= 0``, in fewer rounds where the function is
    linear over a long part of the path: each round also tests numbers about the place where the
    line between both ends of the interval crosses 0.

    Parameters
    ----------
    values:
        Function of an array of any length, of the same shape; NaN counts as below 0.
    path:
        Rising, shape (P,), P ≥ 2.

    Returns
    -------
    As `first_true`.
    """
    found = values(path)
    true_at = np.flatnonzero(found >= 0.0)
    if not len(true_at):
        return None
    first = int(true_at[0])
    if first == 0:
        return float(path[0]), float(path[0])
    x, y = path[first - 1 : first + 1], found[first - 1 : first + 1]
    for _ in range(_ROUNDS):
        inside = _between(x, y)
        if not len(inside):
            break
        x = np.concatenate([x[:1], inside, x[1:]])
        y = np.concatenate([y[:1], values(inside), y[1:]])
        k = int(np.flatnonzero(y >= 0.0)[0])
        x, y = x[k - 1 : k + 1], y[k - 1 : k + 1]
    return float(x[0]), float(x[1])


def _between(x: Floats, y: Floats) -> Floats:
    """Numbers between two ends: evenly spread, and about where their line crosses 0; rising."""
    before, after = x.tolist()
    with np.errstate(invalid="ignore", over="ignore"):
        root = before + (after - before) * float(y[0] / (y[0] - y[1]))
    spread = np.linspace(before, after, _SPREAD + 2)
    if not before <= root <= after:  # an end is infinite or NaN
        root = 0.5 * (before + after)
    near = root + np.spacing(root) * _NEAR
    inside = np.unique(np.concatenate([spread, near]))
    chosen: Floats = inside[(inside > before) & (inside < after)]
    return chosen
