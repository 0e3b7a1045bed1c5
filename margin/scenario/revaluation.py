"""What a scenario does to one expiry and one option: forwards, vols, values and discounts."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from margin.pricing.normal import normal_cdf
from margin.scenario.grid import ABSOLUTE, DOWN, LINEAR, NONE, UP
from margin.scenario.parameters import SECONDS_PER_DAY, SETTLING_SECONDS

MOVES = 5
"""Kinds of vol moves."""

_SHORT_TERM = 30.0 * SECONDS_PER_DAY


@njit(cache=True, error_model="numpy", nogil=True)
def fill_values(forward, strike, tau, vols, call, at, logs, move, out):  # type: ignore[no-untyped-def]
    """Undiscounted Black-76 values of one option in R rows, into `out`.

    Parameters
    ----------
    forward, strike, tau, call:
        Of the option; scalars.
    vols:
        Vol of each move, shape (5,).
    at, logs:
        Forward of each row, and its logarithm less that of `forward`, shape (R,).
    move:
        Which of the vols a row takes, shape (R,).
    out:
        Filled, shape (R,).
    """
    side = 1.0 if call else -1.0
    moneyness = side * math.log(forward / strike)
    root = math.sqrt(tau)
    half = np.empty(MOVES)
    inverse = np.empty(MOVES)
    for m in range(MOVES):
        spread = vols[m] * root
        half[m] = 0.5 * side * spread
        inverse[m] = 1.0 / spread if spread > 0.0 else 0.0
    for row in range(len(at)):
        m = move[row]
        middle = (moneyness + side * logs[row]) * inverse[m]
        d1, d2 = middle + half[m], middle - half[m]
        worth = side * (at[row] * normal_cdf(d1) - strike * normal_cdf(d2))
        least = max(side * (at[row] - strike), 0.0)
        out[row] = least if inverse[m] <= 0.0 or worth < least else worth


@njit(cache=True, error_model="numpy", nogil=True)
def fill_forwards(seconds, forward, spot, log_spot, at, logs):  # type: ignore[no-untyped-def]
    """Forward of each row of one expiry, and its logarithm less that of today's forward.

    ``F' = (F - fixed) * spot + fixed``, where ``fixed = F * (1800 - t) / 1800`` has settled when t
    of the last 1 800 seconds are left.
    """
    if seconds < SETTLING_SECONDS:
        fixed = forward * (SETTLING_SECONDS - seconds) / SETTLING_SECONDS
        for row in range(len(spot)):
            at[row] = (forward - fixed) * spot[row] + fixed
            logs[row] = math.log(at[row] / forward)
    else:
        for row in range(len(spot)):
            at[row] = forward * spot[row]
            logs[row] = log_spot[row]


@njit(cache=True, error_model="numpy", nogil=True)
def vol_multipliers(seconds, parameters):  # type: ignore[no-untyped-def]
    """What the vols of an expiry are multiplied with: up, and down, the latter at least 0."""
    power = parameters.short_term_power
    if seconds > _SHORT_TERM:
        power = parameters.long_term_power
    reach = (_SHORT_TERM / max(seconds, parameters.dte_floor_seconds)) ** power
    up = 1.0 + parameters.vol_range_up * reach
    return up, max(0.0, 1.0 - parameters.vol_range_down * reach)


@njit(cache=True, error_model="numpy", nogil=True)
def fill_vols(vol, ratio, tau, up, down, parameters, out):  # type: ignore[no-untyped-def]
    """Vol of one option in each move, shape (5,).

    Up, none, down, and the two skews: with ``k = ln(K / F)``, ``cap = base_cap + cbase *
    sqrt(tau)`` and ``k* = max(min_kstar, sqrt(tau) * width_scale * (vol_param_static + sqrt(tau) *
    vol_param_scale))`` the vol changes by the share ``k * cap / k*``, at most the cap either way;
    the absolute skew takes ``|k|``. `ratio` is F / K.
    """
    out[UP] = max(vol * up, parameters.min_vol_after_up_shock)
    out[NONE] = vol
    out[DOWN] = vol * down
    root = math.sqrt(tau)
    k = -math.log(ratio)
    width = parameters.vol_param_static + root * parameters.vol_param_scale
    width = max(parameters.min_kstar, root * parameters.width_scale * width)
    cap = parameters.linear_base_cap + parameters.linear_cbase * root
    out[LINEAR] = vol * _skew(k, cap, width)
    cap = parameters.absolute_base_cap + parameters.absolute_cbase * root
    out[ABSOLUTE] = vol * _skew(abs(k), cap, width)


@njit(cache=True, error_model="numpy", nogil=True)
def _skew(k, cap, width):  # type: ignore[no-untyped-def]
    change = k * cap / width
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
    long = parameters.long_discount * math.exp(
        -tau * (positive * parameters.long_rate_mult + parameters.long_rate_add)
    )
    short = parameters.short_discount / math.exp(
        -tau * (positive * parameters.short_rate_mult + parameters.short_rate_add)
    )
    return discount, long, min(1.0 / discount, short)
