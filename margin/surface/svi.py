"""SVI: total implied variance of one expiry as a hyperbola over log-moneyness.

``k = ln(K / F)``, total variance ``w = vol^2 * tau``. Raw parameters stand in the order of
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


def wings(raw: Floats) -> tuple[float, float]:
    """Slopes of w far to the left and to the right, both counted positive: ``b (1 -+ rho)``."""
    _, b, rho, _, _ = _five(raw)
    return b * (1.0 - rho), b * (1.0 + rho)


def least_variance(raw: Floats) -> float:
    """The lowest total variance: ``a + b sigma sqrt(1 - rho^2)``."""
    a, b, rho, _, sigma = _five(raw)
    return a + b * sigma * math.sqrt(max(1.0 - rho * rho, 0.0))


def check_raw(raw: Sequence[float] | Floats, where: str) -> Floats:
    """The parameters as an array, shape (5,), once they are a smile.

    Raises
    ------
    DataError
        A parameter is outside its domain (b >= 0, |rho| <= 1, sigma > 0), the lowest variance is
        not above 0, or a wing is steeper than `MAX_WING`; the error names `where`.
    """
    smile = np.asarray(raw, dtype=np.float64)
    if smile.shape != (5,) or not np.isfinite(smile).all():
        raise DataError(f"{where} has SVI {list(raw)}; expected five finite numbers")
    a, b, rho, _, sigma = (float(value) for value in smile)
    if b < 0.0 or abs(rho) > 1.0 or sigma <= 0.0:
        raise DataError(
            f"{where} has SVI b {b}, rho {rho}, sigma {sigma}; expected b of 0 or more, rho from "
            "-1 to 1 and sigma above 0"
        )
    least = least_variance(smile)
    if least <= 0.0:
        raise DataError(
            f"{where} has a lowest total variance of {least:.6g} at a = {a}; expected one above 0"
        )
    steepest = max(wings(smile))
    if steepest > MAX_WING:
        raise DataError(
            f"{where} has a wing of slope {steepest:.6g}; expected at most {MAX_WING:g} (Lee)"
        )
    return smile


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
def variance(raw, k):  # type: ignore[no-untyped-def]
    """`total_variance` for kernels: a scalar or an array of log-moneyness."""
    return _variance(raw[0], raw[1], raw[2], raw[3], raw[4], k)


@njit(cache=True, error_model="numpy")
def durrleman(raw, k):  # type: ignore[no-untyped-def]
    """Durrleman's function for kernels; no butterfly arbitrage where ``g >= 0``.

    ``g = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2``: the density of the price is
    g times a positive factor. A scalar or an array of log-moneyness; NaN gives NaN.

    Reference: Gatheral and Jacquier (2014), equation 2.1; Durrleman (2003), "A note on initial
    volatility surface".
    """
    w = _variance(raw[0], raw[1], raw[2], raw[3], raw[4], k)
    first = _first(raw[1], raw[2], raw[3], raw[4], k)
    second = _second(raw[1], raw[3], raw[4], k)
    bend = 1.0 - 0.5 * k * first / w
    return bend * bend - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second
