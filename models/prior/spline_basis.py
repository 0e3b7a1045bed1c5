"""Quadratic I-spline ramps: a basis whose combinations with weights of one sign are monotone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from features.account.log_distance import LOG_LIMIT
from market.core.arrays import Floats
from market.core.errors import ModelError
from market.core.lean_kernel import lean_kernel

FORECAST_KNOTS = tuple(
    math.log(ratio)
    for ratio in (0.1, 0.25, 0.4, 0.6, 0.8, 1, 1.3, 1.7, 2.2, 2.8, 3.6, 5, 7, 10, 20)
)
"""Knots in ``ln(b / sigma_h)``: headroom over the volatility forecast of the horizon."""

LONG_RUN_KNOTS = tuple(math.log(ratio) for ratio in (1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 50, 90))
"""Knots in ``ln(b / sigma_long)``: headroom over the hourly long-run volatility."""

LEAST_GAP = 1e-3
"""Smallest distance of two knots."""


def check_knots(knots: Sequence[float]) -> None:
    """Refuse knots on which no basis stands.

    Raises
    ------
    ModelError
        They are fewer than two, not finite, outside of ±`LOG_LIMIT`, or not rising by at least
        `LEAST_GAP`.
    """
    values = np.asarray(knots, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ModelError(f"spline knots are {list(knots)}; give two or more finite numbers")
    if abs(values).max() >= LOG_LIMIT or np.diff(values).min() < LEAST_GAP:
        raise ModelError(
            f"spline knots are {list(knots)}; expected log distances within ±{LOG_LIMIT:.2f} that "
            f"rise by at least {LEAST_GAP}"
        )


def ramps(values: Floats, knots: Sequence[float]) -> Floats:
    """The ramps of some knots at some log distances.

    With the hat function ``H_j`` of knot ``t_j``, piecewise linear, 1 at its knot and 0 at the
    neighbouring ones, ``R_j(x)`` is the integral of ``H_j`` up to x over its whole integral. It
    rises from 0 to 1 over two intervals. The first and the last hat have one side within the
    knots; beyond it they are continued as constants, so ``R_0`` runs on linearly below ``t_0``
    (from 0 downwards) and the last ramp above ``t_m`` (from 1 upwards). The slope of a combination
    is therefore piecewise linear between the knots and constant outside.

    Parameters
    ----------
    values:
        Shape (N,), log distances; beyond ±`LOG_LIMIT` they count as the limit.
    knots:
        J log distances, rising.

    Returns
    -------
    float64, shape (N, J). Each column never falls in `values`, to the last bit; NaN gives NaN.

    Raises
    ------
    ModelError
        The knots do not rise, see `check_knots`.

    References
    ----------
    Ramsay (1988), "Monotone regression splines in action".
    """
    check_knots(knots)
    out = np.empty((len(values), len(knots)))
    _fill_ramps(np.asarray(values, dtype=np.float64), np.asarray(knots, dtype=np.float64), out)
    return out


@lean_kernel
def ramp(x, knots, j):  # type: ignore[no-untyped-def]
    """Ramp j at one log distance; a sum of terms each of which never falls in x."""
    if np.isnan(x):
        return np.nan
    x = min(max(x, -LOG_LIMIT), LOG_LIMIT)
    last = len(knots) - 1
    before = knots[j] - knots[j - 1] if j > 0 else 0.0
    after = knots[j + 1] - knots[j] if j < last else 0.0
    rising = before / (before + after)
    value = 0.0
    if j > 0:
        u = min(max((x - knots[j - 1]) / before, 0.0), 1.0)
        value += rising * (u * u)
    if j < last:
        v = min(max((x - knots[j]) / after, 0.0), 1.0)
        value += (1.0 - rising) * (1.0 - (1.0 - v) * (1.0 - v))
    if j == 0:
        value += 2.0 * min(x - knots[0], 0.0) / after
    if j == last:
        value += 2.0 * max(x - knots[last], 0.0) / before
    return value


@njit(cache=True, error_model="numpy")
def _fill_ramps(values, knots, out):  # type: ignore[no-untyped-def]
    for n in range(len(values)):
        for j in range(len(knots)):
            out[n, j] = ramp(values[n], knots, j)
