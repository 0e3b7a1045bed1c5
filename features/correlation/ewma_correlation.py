"""Exponentially weighted correlation of all pairs of symbols."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from market.clock import Interval

Floats = npt.NDArray[np.float64]


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (3, S, S): products, squares of the row's symbol, count.

    The moments of a pair are kept over the bars that both symbols have, so the correlation stays
    within [-1, 1] whatever is missing.
    """
    return np.zeros((3, symbols, symbols))


def ewma_correlation(
    inputs: Floats, state: Floats, out: Floats, half_life_hours: float, interval: Interval
) -> None:
    """Correlation of log returns with exponentially falling weights; moves `state`.

    Formula: ``sum w r_i r_j / sqrt(sum w r_i^2 sum w r_j^2)``, mean zero, over the bars both have,
    ``w = 2^(-age / H)``. `out` has shape (T, S, S), ones on the diagonal. NaN until a pair has
    one half-life of common returns; zero for a symbol that does not move at all.

    References
    ----------
    J.P. Morgan/Reuters, RiskMetrics Technical Document, 4th ed. (1996), chapter 5.
    """
    bars = half_life_hours * interval.per_hour
    kernel(inputs, state, out, 0.5 ** (1.0 / bars), bars)


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, decay, warm_up):  # type: ignore[no-untyped-def]
    """`state[1, i, j]` is the weighted sum of squares of i over the bars that i and j share."""
    symbols = inputs.shape[1]
    for t in range(inputs.shape[0]):
        for i in range(symbols):
            if inputs[t, i, 6] == 1.0:
                state[:, i, :] = 0.0
                state[:, :, i] = 0.0
        for i in range(symbols):
            a = inputs[t, i, 5]
            out[t, i, i] = 1.0
            for j in range(i):
                b = inputs[t, j, 5]
                if not (np.isnan(a) or np.isnan(b)):
                    state[0, i, j] = decay * state[0, i, j] + a * b
                    state[1, i, j] = decay * state[1, i, j] + a * a
                    state[1, j, i] = decay * state[1, j, i] + b * b
                    state[2, i, j] += 1.0
                if state[2, i, j] < warm_up:
                    correlation = np.nan
                else:
                    scale = np.sqrt(state[1, i, j] * state[1, j, i])
                    correlation = state[0, i, j] / scale if scale > 0.0 else 0.0
                    correlation = min(1.0, max(-1.0, correlation))
                out[t, i, j] = correlation
                out[t, j, i] = correlation
