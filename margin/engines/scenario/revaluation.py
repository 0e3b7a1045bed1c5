"""Kernels of one expiry and one option in a scenario: forwards, vols, values, discounts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.engines.scenario.grid import ABSOLUTE, DOWN, LINEAR, NONE, UP
from margin.engines.scenario.parameters import SECONDS_PER_DAY, SETTLING_SECONDS
from margin.pricing.normal import normal_cdf

MOVES = 5
"""Kinds of vol moves."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Option(NamedTuple):
    """One option: its strike, ``ln(F / K)`` today, and the years that are left."""

    strike: float
    moneyness: float
    tau: float
    call: bool


class Rows(NamedTuple):
    """One expiry in R scenarios, shape (R,) each.

    Attributes
    ----------
    forward, log_move:
        Forward, and its logarithm less that of today's forward.
    vol_move:
        Code of the vol move.
    """

    forward: Floats
    log_move: Floats
    vol_move: Ints


_SHORT_TERM = 30.0 * SECONDS_PER_DAY


@njit(cache=True, error_model="numpy", nogil=True)
def fill_values(option, vols, rows, scratch, out):  # type: ignore[no-untyped-def]
    """Undiscounted Black-76 values of one option in R rows, into `out`.

    Parameters
    ----------
    option, rows:
        `Option` and `Rows`.
    vols:
        Vol of each move, shape (5,).
    scratch:
        Shape (2 R,).
    out:
        Filled, shape (R,): the intrinsic value without vol, time or a forward above 0; at an
        infinite vol the forward for a call and the strike for a put.
    """
    strike, forward, log_move, vol_move = option.strike, rows.forward, rows.log_move, rows.vol_move
    count = len(forward)
    side = 1.0 if option.call else -1.0
    root = math.sqrt(option.tau)
    # Three loops and not one: each becomes vector instructions.
    for row in range(count):
        spread = vols[vol_move[row]] * root
        middle = side * (option.moneyness + log_move[row]) / spread
        half = 0.5 * side * spread
        scratch[row] = middle + half
        scratch[row + count] = middle - half
    for i in range(2 * count):
        scratch[i] = normal_cdf(scratch[i])
    for row in range(count):
        worth = side * (forward[row] * scratch[row] - strike * scratch[row + count])
        intrinsic = side * (forward[row] - strike)
        least = max(0.0, intrinsic)
        # Without vol, time or a forward the quotient above is no number: intrinsic value.
        bare = root <= 0.0 or vols[vol_move[row]] * root <= 0.0 or forward[row] <= 0.0
        out[row] = least if worth < least or bare else worth


@njit(cache=True, error_model="numpy", nogil=True)
def fill_forwards(seconds, forward, spot, log_spot, rows):  # type: ignore[no-untyped-def]
    """Fill forwards and log moves of `rows` for one expiry.

    ``F' = (F - fixed) * spot + fixed``, where ``fixed = F * (1800 - t) / 1800`` has settled when t
    of the last 1 800 seconds are left; at t = 0 nothing moves.
    """
    if seconds < SETTLING_SECONDS:
        fixed = forward * (SETTLING_SECONDS - seconds) / SETTLING_SECONDS
        for row in range(len(spot)):
            rows.forward[row] = (forward - fixed) * spot[row] + fixed
            rows.log_move[row] = math.log(rows.forward[row] / forward)
    else:
        for row in range(len(spot)):
            rows.forward[row] = forward * spot[row]
            rows.log_move[row] = log_spot[row]


@njit(cache=True, error_model="numpy", nogil=True)
def vol_multipliers(seconds, parameters):  # type: ignore[no-untyped-def]
    """Multipliers of the vols of an expiry: up, and down, the latter at least 0.

    ``1 + vol_range_up * m`` and ``max(0, 1 - vol_range_down * m)`` with ``m = (30 d / max(t,
    dte_floor))^p``. Without a floor m is infinite at t = 0 for p > 0, and so is the vol up; a
    range of 0 leaves the vol as it is at any m.
    """
    power = parameters.short_term_power
    if seconds > _SHORT_TERM:
        power = parameters.long_term_power
    reach = (_SHORT_TERM / max(seconds, parameters.dte_floor_seconds)) ** power
    up, down = 1.0, 1.0
    if parameters.vol_range_up != 0.0:
        up = 1.0 + parameters.vol_range_up * reach
    if parameters.vol_range_down != 0.0:
        down = max(0.0, 1.0 - parameters.vol_range_down * reach)
    return up, down


@njit(cache=True, error_model="numpy", nogil=True)
def fill_vols(vol, moneyness, tau, up, down, parameters, out):  # type: ignore[no-untyped-def]
    """Vol of one option in each move, shape (5,).

    Up, none, down, and the two skews: with ``k = ln(K / F)``, ``cap = base_cap + cbase *
    sqrt(tau)`` and ``k* = max(min_kstar, sqrt(tau) * width_scale * (vol_param_static + sqrt(tau) *
    vol_param_scale))`` the vol changes by the share ``k * cap / k*``, at most the cap either way;
    the absolute skew takes ``|k|``. `moneyness` is ``-k``. Where ``k*`` is 0 that is its limit from
    above: for a cap above 0 the cap with the sign of k, and 0 at k = 0. A vol of 0 stays 0
    whatever multiplies it, also where that is infinite.
    """
    out[UP] = max(_times(vol, up), parameters.min_vol_after_up_shock)
    out[NONE] = vol
    out[DOWN] = vol * down
    root = math.sqrt(tau)
    k = -moneyness
    width = parameters.skew_vol_param_static + root * parameters.skew_vol_param_scale
    width = max(parameters.skew_min_kstar, root * parameters.skew_width_scale * width)
    cap = parameters.skew_linear_base_cap + parameters.skew_linear_cbase * root
    out[LINEAR] = _times(vol, _skew(k, cap, width))
    cap = parameters.skew_abs_base_cap + parameters.skew_abs_cbase * root
    out[ABSOLUTE] = _times(vol, _skew(abs(k), cap, width))


@njit(cache=True, error_model="numpy", nogil=True)
def _times(vol, multiplier):  # type: ignore[no-untyped-def]
    return vol * multiplier if vol != 0.0 else 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def _skew(k, cap, width):  # type: ignore[no-untyped-def]
    change = 0.0
    if k != 0.0 and cap != 0.0:
        change = k * cap / width
        if width == 0.0:
            change = np.inf if (k > 0.0) == (cap > 0.0) else -np.inf
    change = min(cap, change) if k >= 0.0 else max(-cap, change)
    return max(0.0, 1.0 + change)


@njit(cache=True, error_model="numpy", nogil=True)
def discounts(tau, rate, parameters):  # type: ignore[no-untyped-def]
    """Discount factor of an expiry, and the static ones of a positive and a negative value.

    ``df = exp(-tau * r)`` with ``r = max(rate, 0)``; ``long = static_discount_long * exp(-tau * (r
    * long_rate_mult + long_rate_add))``; ``short = min(1 / df, static_discount_short / exp(-tau *
    (r * short_rate_mult + short_rate_add)))``.
    """
    positive = max(rate, 0.0)
    discount = math.exp(-tau * positive)
    long = parameters.static_discount_long * math.exp(
        -tau * (positive * parameters.long_rate_mult + parameters.long_rate_add)
    )
    short = 0.0
    if parameters.static_discount_short != 0.0:
        short = parameters.static_discount_short / math.exp(
            -tau * (positive * parameters.short_rate_mult + parameters.short_rate_add)
        )
    return discount, long, min(1.0 / discount, short)
