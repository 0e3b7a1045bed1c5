"""Black-76: European options on a forward."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.pricing.normal import normal_cdf, normal_pdf
from market.core.arrays import Floats
from market.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Greeks:
    """Derivatives of an option's value for one unit of the underlying.

    Attributes
    ----------
    delta, gamma:
        First and second derivative by the forward.
    vega:
        By the vol, for 1.00 of it.
    """

    delta: Floats
    gamma: Floats
    vega: Floats


def black76_price(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tau: npt.ArrayLike,
    vol: npt.ArrayLike,
    call: npt.ArrayLike,
    rate: npt.ArrayLike = 0.0,
) -> Floats:
    """Value of European options, for one unit of the underlying, in the quote currency.

    ``df * (F * N(d1) - K * N(d2))`` for a call, ``df * (K * N(-d2) - F * N(-d1))`` for a put,
    with ``d1 = ln(F / K) / (vol * sqrt(tau)) + vol * sqrt(tau) / 2``, ``d2 = d1 - vol *
    sqrt(tau)``, ``df = exp(-rate * tau)``. Where tau or vol is 0 the intrinsic value, discounted.

    Parameters
    ----------
    forward, strike:
        Above 0.
    tau:
        Years left; 0 or less counts as expired.
    vol:
        Annual; 0 or less is no vol.
    call:
        True for a call, False for a put.
    rate:
        Continuously compounded, a year.

    Returns
    -------
    In the shape that the arguments broadcast to; NaN where a number is NaN. Never below the
    intrinsic value.

    Raises
    ------
    DataError
        A forward or a strike is 0, negative or infinite.

    References
    ----------
    Black (1976), "The pricing of commodity contracts".
    """
    columns, shape = _columns(forward, strike, tau, vol, call, rate)
    out = np.empty(columns.shape[1])
    _prices(columns, out)
    return out.reshape(shape)


def black76_greeks(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tau: npt.ArrayLike,
    vol: npt.ArrayLike,
    call: npt.ArrayLike,
    rate: npt.ArrayLike = 0.0,
) -> Greeks:
    """Greeks of European options; arguments, shapes, NaN and errors as in `black76_price`.

    ``delta = df * N(d1)`` (put: ``-df * N(-d1)``), ``gamma = df * phi(d1) / (F * vol *
    sqrt(tau))``, ``vega = df * F * phi(d1) * sqrt(tau)``.

    Where tau or vol is 0 they are those of the discounted intrinsic value: delta ``df`` or 0, half
    of it at the strike; gamma 0, also at the strike itself, where it has no finite limit.
    """
    columns, shape = _columns(forward, strike, tau, vol, call, rate)
    out = np.empty((3, columns.shape[1]))
    _greeks(columns, out)
    return Greeks(*(column.reshape(shape) for column in out))


@njit(cache=True, error_model="numpy")
def price(forward, strike, tau, vol, call, discount):  # type: ignore[no-untyped-def]
    """Value of one option, for use in kernels: `black76_price` with its discount factor given."""
    side = 1.0 if call else -1.0
    intrinsic = side * (forward - strike)
    if intrinsic <= 0.0:  # never -0.0
        intrinsic = 0.0
    spread = vol * math.sqrt(tau) if tau > 0.0 else 0.0 * tau
    if spread <= 0.0:
        return discount * intrinsic
    middle = math.log(forward / strike) / spread
    d1 = side * (middle + 0.5 * spread)
    d2 = side * (middle - 0.5 * spread)
    value = side * (forward * normal_cdf(d1) - strike * normal_cdf(d2))
    if value <= intrinsic:  # by rounding
        value = intrinsic
    return discount * value


@njit(cache=True, error_model="numpy")
def _prices(columns, out):  # type: ignore[no-untyped-def]
    forward, strike, tau, vol, call, rate = columns
    for i in range(len(out)):
        discount = math.exp(-rate[i] * max(tau[i], 0.0))
        out[i] = price(forward[i], strike[i], tau[i], vol[i], call[i] != 0.0, discount)


@njit(cache=True, error_model="numpy")
def _greeks(columns, out):  # type: ignore[no-untyped-def]
    forward, strike, tau, vol, call, rate = columns
    for i in range(out.shape[1]):
        side = 1.0 if call[i] != 0.0 else -1.0
        left = max(tau[i], 0.0)
        root = math.sqrt(left)
        discount = math.exp(-rate[i] * left)
        spread = vol[i] * root
        density = 0.0
        if spread <= 0.0:
            money = side * (forward[i] - strike[i])
            inside = 0.5 * (np.sign(money) + 1.0)
            if money == 0.0:
                density = normal_pdf(0.0)
            out[1, i] = 0.0
        else:
            d1 = math.log(forward[i] / strike[i]) / spread + 0.5 * spread
            inside = normal_cdf(side * d1)
            density = normal_pdf(d1)
            out[1, i] = discount * density / (forward[i] * spread)
        out[0, i] = side * discount * inside
        out[2, i] = discount * forward[i] * density * root


def _columns(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tau: npt.ArrayLike,
    vol: npt.ArrayLike,
    call: npt.ArrayLike,
    rate: npt.ArrayLike,
) -> tuple[Floats, tuple[int, ...]]:
    """The arguments as rows of one length, shape (6, n), and the shape they make together."""
    arrays = [
        np.asarray(value, dtype=np.float64)
        for value in (forward, strike, tau, vol, np.asarray(call, dtype=np.bool_), rate)
    ]
    for name, column in (("forward", arrays[0]), ("strike", arrays[1])):
        wrong = (column <= 0.0) | np.isinf(column)
        if wrong.any():
            raise DataError(
                f"{name} {column[wrong].flat[0]} cannot be priced; expected a price above 0"
            )
    together = np.broadcast_arrays(*arrays)
    return np.stack([column.ravel() for column in together]), together[0].shape
