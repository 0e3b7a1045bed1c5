"""The vol that a price implies under Black-76, compiled."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.pricing.black76 import price as black76
from margin.pricing.normal import normal_pdf
from market.core.arrays import Floats
from market.core.errors import DataError

MAX_SPREAD = 16.0
"""Highest ``vol sqrt(tau)`` looked for: from there on a price is its bound to the last digit."""

_STEPS = 100
_CLOSE = 4e-16


def implied_vol(
    value: npt.ArrayLike,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tau: npt.ArrayLike,
    call: npt.ArrayLike,
    rate: npt.ArrayLike = 0.0,
) -> Floats:
    """Annual vol at which Black-76 gives the price.

    Solved for ``vol sqrt(tau)`` on the out-of-the-money side (put-call parity takes the intrinsic
    value off), by Newton on the logarithm of the price where the option is far out of the money
    and on the price itself elsewhere, within a bracket that each step narrows and that is halved
    where Newton would leave it.

    Parameters
    ----------
    value:
        Price for one unit of the underlying, in the quote currency.
    forward, strike:
        Above 0.
    tau:
        Years left.
    call:
        True for a call, False for a put.
    rate:
        Continuously compounded, a year.

    Returns
    -------
    In the shape that the arguments broadcast to. NaN where no vol above 0 gives the price: it is
    at or below the discounted intrinsic value, at or above its bound (discounted forward of a
    call, strike of a put), no time is left, or a number is NaN. An in-the-money price carries the
    digits of its time value only.

    Raises
    ------
    DataError
        A forward or a strike is 0, negative or infinite.

    References
    ----------
    Manaster and Koehler (1982), "The calculation of implied variances from the Black-Scholes
    model", Journal of Finance 37 (the start); Jaeckel (2015), "Let's be rational" (logarithm of
    the price in the wings).
    """
    columns = [
        np.asarray(column, dtype=np.float64) for column in (value, forward, strike, tau, rate)
    ]
    for name, column in (("forward", columns[1]), ("strike", columns[2])):
        wrong = (column <= 0.0) | np.isinf(column)
        if wrong.any():
            raise DataError(
                f"{name} {column[wrong].flat[0]} implies no vol; expected a price above 0"
            )
    together = np.broadcast_arrays(*columns, np.asarray(call, dtype=np.bool_))
    price, money, strikes, years, interest, is_call = (
        np.ascontiguousarray(column).ravel() for column in together
    )
    out = np.empty(price.size)
    _implied(price, money, strikes, years, interest, is_call, out)
    return out.reshape(together[0].shape)


@njit(cache=True, error_model="numpy")
def _implied(value, forward, strike, tau, rate, call, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        discount = math.exp(-rate[i] * max(tau[i], 0.0))
        intrinsic = forward[i] - strike[i] if call[i] else strike[i] - forward[i]
        left = (value[i] / discount - max(intrinsic, 0.0)) / forward[i]
        out[i] = np.nan
        if tau[i] > 0.0 and tau[i] < np.inf and left > 0.0:
            out[i] = _spread(left, strike[i] / forward[i]) / math.sqrt(tau[i])


@njit(cache=True, error_model="numpy")
def _spread(left, strike):  # type: ignore[no-untyped-def]
    """``vol sqrt(tau)`` of an out-of-the-money price on a forward of 1; NaN where there is none."""
    call = strike >= 1.0
    if not left < min(strike, 1.0):
        return np.nan
    low, high = 0.0, MAX_SPREAD
    if not left < black76(1.0, strike, 1.0, high, call, 1.0):
        return np.nan
    far = abs(math.log(strike))
    # Where the price bends: from there Newton converges from one side.
    spread = min(max(math.sqrt(2.0 * far), 1e-3), high)
    for _ in range(_STEPS):
        price = black76(1.0, strike, 1.0, spread, call, 1.0)
        if price < left:
            low = spread
        else:
            high = spread
        slope = normal_pdf(-math.log(strike) / spread + 0.5 * spread)
        step = (price - left) / slope
        if price > 0.0 and spread * spread < 2.0 * far:
            step = math.log(price / left) * price / slope
        following = spread - step
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - spread) <= _CLOSE * spread:
            return following
        spread = following
    return spread
