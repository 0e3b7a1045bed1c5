"""SVI: total implied variance of one expiry as a hyperbola over log-moneyness.

``k = ln(K / F)``, total variance ``w = vol^2 * tau``. Raw parameters are kept in the order of
`market.quotes.quotes.ExpiryQuote.svi`: (a, b, rho, m, sigma).

References
----------
Gatheral and Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14;
Lee (2004), "The moment formula for implied volatility at extreme strikes".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from market.core.arrays import Floats
from market.core.errors import DataError

MAX_WING = 2.0
"""Steepest slope that total variance may have in a wing (Lee)."""


def total_variance(raw: Floats, k: Floats) -> Floats:
    """``w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))``.

    Parameters
    ----------
    raw:
        (a, b, rho, m, sigma), shape (5,).
    k:
        Log-moneyness, any shape; NaN gives NaN.
    """
    return np.asarray(_variance(*_five(raw), np.asarray(k, dtype=np.float64)))


def slopes(raw: Floats, k: Floats) -> tuple[Floats, Floats]:
    """First and second derivative of w in k, each of the shape of `k`; NaN gives NaN."""
    _, b, rho, m, sigma = _five(raw)
    k = np.asarray(k, dtype=np.float64)
    return np.asarray(_first(b, rho, m, sigma, k)), np.asarray(_second(b, m, sigma, k))


def durrleman(raw: Floats, k: Floats) -> Floats:
    """Durrleman's function, of the shape of `k`; the density of the price is g times a positive
    factor, so there is no butterfly arbitrage where ``g >= 0``.

    ``g = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2``. NaN gives NaN.

    Reference: Gatheral and Jacquier (2014), equation 2.1; Durrleman (2003), "A note on initial
    volatility surface".
    """
    return np.asarray(g_of(np.asarray(raw, dtype=np.float64), np.asarray(k, dtype=np.float64)))


def wings(raw: Floats) -> tuple[float, float]:
    """Slopes of w far to the left and to the right, both counted positive: ``b (1 -+ rho)``."""
    _, b, rho, _, _ = _five(raw)
    return b * (1.0 - rho), b * (1.0 + rho)


def least_variance(raw: Floats) -> float:
    """The lowest total variance: ``a + b sigma sqrt(1 - rho^2)``."""
    a, b, rho, _, sigma = _five(raw)
    return a + b * sigma * math.sqrt(max(1.0 - rho * rho, 0.0))


def natural_from_raw(raw: Floats) -> Floats:
    """Natural parameters (delta, mu, rho, omega, zeta) of raw ones, shape (5,).

    ``w = delta + omega / 2 (1 + zeta rho (k - mu) + sqrt((zeta (k - mu) + rho)^2 + 1 - rho^2))``.

    Raises
    ------
    DataError
        |rho| is 1: such a slice has no natural form.

    Reference: Gatheral and Jacquier (2014), Lemma 3.1.
    """
    a, b, rho, m, sigma = _five(raw)
    if abs(rho) >= 1.0:
        raise DataError(f"rho is {rho}; expected a value between -1 and 1 for the natural form")
    root = math.sqrt(1.0 - rho * rho)
    omega = 2.0 * b * sigma / root
    delta = a - 0.5 * omega * (1.0 - rho * rho)
    return np.array([delta, m + rho * sigma / root, rho, omega, root / sigma])


def raw_from_natural(natural: Floats) -> Floats:
    """Raw parameters of natural ones (delta, mu, rho, omega, zeta), shape (5,).

    Raises
    ------
    DataError
        |rho| is 1 or more, or zeta or omega is not what it must be.
    """
    delta, mu, rho, omega, zeta = _five(natural)
    if not (abs(rho) < 1.0 and zeta > 0.0 and omega >= 0.0):
        raise DataError(
            f"natural SVI has rho {rho}, omega {omega} and zeta {zeta}; expected |rho| under 1, "
            "omega of 0 or more and zeta above 0"
        )
    root = math.sqrt(1.0 - rho * rho)
    return np.array(
        [
            delta + 0.5 * omega * (1.0 - rho * rho),
            0.5 * omega * zeta,
            rho,
            mu - rho / zeta,
            root / zeta,
        ]
    )


def check_raw(raw: Sequence[float] | Floats, where: str) -> Floats:
    """The parameters as an array, shape (5,), once they are a smile.

    Raises
    ------
    DataError
        A parameter is outside its domain (b >= 0, |rho| <= 1, sigma > 0), the lowest variance is
        not above 0, or a wing is steeper than `MAX_WING`; the error names `where`.
    """
    found = np.asarray(raw, dtype=np.float64)
    if found.shape != (5,) or not np.isfinite(found).all():
        raise DataError(f"{where} has SVI {list(raw)}; expected five finite numbers")
    a, b, rho, _, sigma = (float(value) for value in found)
    if b < 0.0 or abs(rho) > 1.0 or sigma <= 0.0:
        raise DataError(
            f"{where} has SVI b {b}, rho {rho}, sigma {sigma}; expected b of 0 or more, rho from "
            "-1 to 1 and sigma above 0"
        )
    least = least_variance(found)
    if least <= 0.0:
        raise DataError(
            f"{where} has a lowest total variance of {least:.6g} at a = {a}; expected one above 0"
        )
    steepest = max(wings(found))
    if steepest > MAX_WING:
        raise DataError(
            f"{where} has a wing of slope {steepest:.6g}; expected at most {MAX_WING:g} (Lee)"
        )
    return found


def _five(parameters: Floats) -> tuple[float, float, float, float, float]:
    p = np.asarray(parameters, dtype=np.float64)
    if p.shape != (5,):
        raise DataError(f"SVI parameters have shape {p.shape}; expected (5,)")
    return float(p[0]), float(p[1]), float(p[2]), float(p[3]), float(p[4])


@njit(cache=True, error_model="numpy")
def _variance(a, b, rho, m, sigma, k):  # type: ignore[no-untyped-def]
    return a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + sigma * sigma))


@njit(cache=True, error_model="numpy")
def _first(b, rho, m, sigma, k):  # type: ignore[no-untyped-def]
    return b * (rho + (k - m) / np.sqrt((k - m) ** 2 + sigma * sigma))


@njit(cache=True, error_model="numpy")
def _second(b, m, sigma, k):  # type: ignore[no-untyped-def]
    return b * sigma * sigma / ((k - m) ** 2 + sigma * sigma) ** 1.5


@njit(cache=True, error_model="numpy")
def w_of(raw, k):  # type: ignore[no-untyped-def]
    """`total_variance` for kernels: a scalar or an array of log-moneyness."""
    return _variance(raw[0], raw[1], raw[2], raw[3], raw[4], k)


@njit(cache=True, error_model="numpy")
def g_of(raw, k):  # type: ignore[no-untyped-def]
    """`durrleman` for kernels: a scalar or an array of log-moneyness."""
    w = _variance(raw[0], raw[1], raw[2], raw[3], raw[4], k)
    first = _first(raw[1], raw[2], raw[3], raw[4], k)
    second = _second(raw[1], raw[3], raw[4], k)
    bend = 1.0 - 0.5 * k * first / w
    return bend * bend - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second
