"""The normal distribution, compiled: what option prices are made of.

``docs/adr/0018-the-normal-cdf-from-a-table.md`` says why it is not ``erfc``.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from market.core.arrays import Floats

_STEPS = 128
"""Nodes for each unit of x."""

_EDGE = 9.0
"""Beyond it the tail, 1.1e-19, counts as nothing."""

_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)


def _nodes() -> Floats:
    """``N(-x)`` and ``phi(x)`` at x = 0, 1 / 128, ..., 9: 18 KB, shape (1153, 2)."""
    at = [k / _STEPS for k in range(int(_EDGE * _STEPS) + 1)]
    return np.array(
        [(0.5 * math.erfc(x / math.sqrt(2.0)), _DENSITY * math.exp(-0.5 * x * x)) for x in at]
    )


_NODES = _nodes()


@njit(cache=True, error_model="numpy")
def normal_cdf(x):  # type: ignore[no-untyped-def]
    """Probability that a standard normal variable is at most x; a scalar, for use in kernels.

    The lower tail ``N(-|x|)`` by its Taylor series around the nearest node -u,

    ``N(h - u) = N(-u) + phi(u) * (h + u h^2 / 2 + (u^2 - 1) h^3 / 6 + ...)``,

    up to h^5, which leaves 2e-17 for ``|h| <= 1 / 256``; the upper tail is ``1 - N(-x)``. The
    absolute error is at most 1.3e-16, ``N(-x) + N(x) = 1`` to the last bit. 0 below −9, 1 above
    9, NaN for NaN.

    References
    ----------
    Abramowitz and Stegun (1964), 26.2.28: the derivatives, Hermite polynomials times the density.
    """
    # Choices and no branches: loops over this become vector instructions.
    size = abs(x)
    at = size if size < _EDGE else _EDGE  # noqa: FURB136  (a NaN too)
    k = int(at * _STEPS + 0.5)
    u = k / _STEPS
    h = u - at
    u2 = u * u
    fourth = (u2 * (u2 - 6.0) + 3.0) * (1.0 / 120.0)
    third = u * (u2 - 3.0) * (1.0 / 24.0)
    second = (u2 - 1.0) * (1.0 / 6.0)
    series = 1.0 + h * (0.5 * u + h * (second + h * (third + h * fourth)))
    tail = _NODES[k, 0] + _NODES[k, 1] * h * series
    tail = 0.0 if size >= _EDGE else tail
    lower = 1.0 - tail if x > 0.0 else tail
    return x if x != x else lower


@njit(cache=True, error_model="numpy")
def normal_pdf(x):  # type: ignore[no-untyped-def]
    """Density of a standard normal variable at x; 0 at infinity, NaN for NaN; a scalar."""
    return _DENSITY * math.exp(-0.5 * x * x)
