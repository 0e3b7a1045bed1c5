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
