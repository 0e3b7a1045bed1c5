"""The normal distribution, compiled: what option prices are made of.

``docs/adr/0018-the-normal-cdf-from-a-table.md`` says why it is not ``erfc``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]

_STEPS = 16
"""Nodes for each unit of x."""

_EDGE = 9.0
"""Beyond it the tail, 1.1e-19, counts as nothing."""

_DEGREE = 7

_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)


def _tail_coefficients() -> Floats:
    """Coefficients of ``N(-k / 16 + h)`` in powers of h, shape (nodes, 8): one cache line each.

    The Taylor series, whose n-th derivative is ``(-1)^(n - 1) He_(n - 1)(x) phi(x)``, up to h^8;
    that last power is replaced by the polynomial of lower degree that is nearest to it for
    ``|h| <= 1/32`` (Chebyshev economisation), which leaves an error below 1e-17.
    """
    reach = 0.5 / _STEPS
    table = np.zeros((int(_EDGE * _STEPS) + 1, _DEGREE + 1))
    for k in range(len(table)):
        x = -k / _STEPS
        hermite = [1.0, x]
        for n in range(1, _DEGREE):
            hermite.append(x * hermite[n] - n * hermite[n - 1])
        density = _DENSITY * math.exp(-0.5 * x * x)
        series = [0.5 * math.erfc(-x / math.sqrt(2.0))]
        series += [
            (-1.0) ** n * hermite[n] * density / math.factorial(n + 1) for n in range(_DEGREE + 1)
        ]
        top = series.pop()
        # t^8 - T8(t) / 128 = 2 t^6 - 1.25 t^4 + 0.25 t^2 - 1 / 128, with t = h / reach
        series[6] += top * 2.0 * reach**2
        series[4] -= top * 1.25 * reach**4
        series[2] += top * 0.25 * reach**6
        series[0] -= top * reach**8 / 128.0
        table[k] = series
    return table


_TAIL = _tail_coefficients()


@njit(cache=True, error_model="numpy")
def normal_cdf(x):  # type: ignore[no-untyped-def]
    """Probability that a standard normal variable is at most x; a scalar, for use in kernels.

    A polynomial around the nearest of 145 nodes gives the lower tail ``N(-|x|)``; the upper one is
    ``1 - N(-x)``. The absolute error is at most 1.2e-16, ``N(-x) + N(x) = 1`` to the last bit.
    0 below −9, 1 above 9, NaN for NaN.

    References
    ----------
    Abramowitz and Stegun (1964), 26.2.28 (derivatives) and 22.20 (economisation).
    """
    size = abs(x)
    within = size < _EDGE
    at = size if within else _EDGE
    k = int(at * _STEPS + 0.5)
    h = k / _STEPS - at
    c = _TAIL
    tail = c[k, 6] + h * c[k, 7]
    tail = c[k, 3] + h * (c[k, 4] + h * (c[k, 5] + h * tail))
    tail = c[k, 0] + h * (c[k, 1] + h * (c[k, 2] + h * tail))
    if not within:
        tail = 0.0 if size >= _EDGE else x
    return 1.0 - tail if x > 0.0 else tail


@njit(cache=True, error_model="numpy")
def normal_pdf(x):  # type: ignore[no-untyped-def]
    """Density of a standard normal variable at x; 0 at infinity, NaN for NaN; a scalar."""
    return _DENSITY * math.exp(-0.5 * x * x)
