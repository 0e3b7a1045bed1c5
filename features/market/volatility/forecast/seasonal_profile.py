"""Seasonal profile by hour of the week, shared by all symbols: which hours are volatile.

For each hour the deviation d is the mean over symbols of ``ln g`` minus its mean over the 168
hourly bars before, of the symbols that have so many since their last gap of over a day. The slot
of the hour moves by ``S <- L S + d``, ``N <- L N + 1`` with ``L = 2^(-1/52)``; the profile is
``S / (N + 4)``, smoothed cyclically with weights .1, .2, .4, .2, .1, minus its mean. It is 0 at
first. An hour without such a symbol leaves it as it is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from features.market.inputs import HOUR, RESET
from features.market.volatility.forecast.hours import VARIANCE

SLOTS = 168
DECAY = 2.0 ** (-1.0 / 52.0)
"""What a week leaves of the weeks before."""
PRIOR_WEEKS = 4.0
"""Weeks without deviation that every slot starts with."""
INNER, MIDDLE, OUTER = 0.4, 0.2, 0.1
"""Weights of a slot and of those one and two hours away."""

SYMBOL_WIDTH = 2 + SLOTS
"""State of a symbol: bars since a reset, place in the ring, and the ring of 168 values of ln g."""
_SUMS, _COUNTS, _PROFILE, _FACTOR = 0, SLOTS, 2 * SLOTS, 3 * SLOTS
_AHEAD = 4 * SLOTS
_STARTED = _AHEAD + 4
WIDTH = _STARTED + 1
"""Shared state: S, N, the profile and its exponential by slot; half the log mean of the factors
ahead at the last whole hour; whether there was one."""


@njit(cache=True, error_model="numpy")
def kernel(inputs, hourly, horizons, state, known, ahead):  # type: ignore[no-untyped-def]
    """Move the profile through T rows.

    Parameters
    ----------
    inputs, hourly:
        Market inputs (20, S, T) and hourly bars (3, S, T).
    horizons:
        Hours, increasing, at most 168, shape (4,).
    state:
        Of symbols, shape (S, 170), and shared, shape (677,).
    known:
        Filled: at each row that closes an hour the profile of that hour as known before it,
        shape (T,).
    ahead:
        Filled: ``ln(mean_{k <= h} exp(s of the k-th hour to come)) / 2``, shape (T, 4); between
        closes of hours that of the last one.
    """
    symbols, shared = state
    if shared[_STARTED] == 0.0:
        shared[_STARTED] = 1.0
        shared[_FACTOR : _FACTOR + SLOTS] = 1.0
    for t in range(inputs.shape[2]):
        for s in range(inputs.shape[1]):
            if inputs[RESET, s, t] == 1.0:
                symbols[s, 0] = 0.0
        hour = inputs[HOUR, 0, t]
        known[t] = np.nan
        if hour == np.floor(hour):
            slot = int(hour - 1.0) % SLOTS
            known[t] = shared[_PROFILE + slot]
            deviation, count = 0.0, 0.0
            for s in range(inputs.shape[1]):
                g = hourly[VARIANCE, s, t]
                if g == g:
                    x = np.log(g)
                    ring = symbols[s, 2:]
                    if symbols[s, 0] >= SLOTS:
                        deviation += x - np.sum(ring) / SLOTS
                        count += 1.0
                    place = int(symbols[s, 1])
                    ring[place] = x
                    symbols[s, 0] += 1.0
                    symbols[s, 1] = (place + 1) % SLOTS
            if count > 0.0:
                shared[_SUMS + slot] = DECAY * shared[_SUMS + slot] + deviation / count
                shared[_COUNTS + slot] = DECAY * shared[_COUNTS + slot] + 1.0
                _smooth(shared)
            _look_ahead(shared, int(hour), horizons)
        for k in range(len(horizons)):
            ahead[t, k] = shared[_AHEAD + k]


@njit(cache=True, error_model="numpy")
def _smooth(shared):  # type: ignore[no-untyped-def]
    """Profile and its exponential from the sums and counts of the slots."""
    shrunk = np.empty(SLOTS)
    for i in range(SLOTS):
        shrunk[i] = shared[_SUMS + i] / (shared[_COUNTS + i] + PRIOR_WEEKS)
    total = 0.0
    for i in range(SLOTS):
        value = (
            OUTER * shrunk[i - 2]
            + MIDDLE * shrunk[i - 1]
            + INNER * shrunk[i]
            + MIDDLE * shrunk[(i + 1) % SLOTS]
            + OUTER * shrunk[(i + 2) % SLOTS]
        )
        shared[_PROFILE + i] = value
        total += value
    for i in range(SLOTS):
        shared[_PROFILE + i] -= total / SLOTS
        shared[_FACTOR + i] = np.exp(shared[_PROFILE + i])


@njit(cache=True, error_model="numpy")
def _look_ahead(shared, hour, horizons):  # type: ignore[no-untyped-def]
    """Half the log of the mean factor over the hours after `hour`, for each horizon."""
    total, done = 0.0, 0
    for k in range(len(horizons)):
        while done < horizons[k]:
            total += shared[_FACTOR + (hour + done) % SLOTS]
            done += 1
        shared[_AHEAD + k] = 0.5 * np.log(total / done)
