"""Exponentially weighted correlation of all pairs of symbols."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval

Floats = npt.NDArray[np.float64]


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (4, P): products, squares of either symbol and count of the
    P = S (S - 1) / 2 pairs, in the rows of the matrix below its diagonal.

    The moments of a pair are weight over the bars that both symbols have, so the correlation stays
    within [-1, 1] whatever is missing.
    """
    return np.zeros((4, symbols * (symbols - 1) // 2))


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
    """All pairs in a row and without branches, which the compiler turns into vector code."""
    symbols, pairs = inputs.shape[1], state.shape[1]
    products, squares, others, counts = state[0], state[1], state[2], state[3]
    returns, known = np.empty(symbols), np.empty(symbols)
    a, b, both, ratios = np.empty(pairs), np.empty(pairs), np.empty(pairs), np.empty(pairs)
    for t in range(inputs.shape[2]):
        resets = 0.0
        for i in range(symbols):
            r = inputs[LOG_RETURN, i, t]
            known[i] = 0.0 if np.isnan(r) else 1.0
            returns[i] = 0.0 if np.isnan(r) else r
            resets += inputs[RESET, i, t]
        p = 0
        for i in range(symbols):
            for j in range(i):
                if resets > 0.0 and (inputs[RESET, i, t] == 1.0 or inputs[RESET, j, t] == 1.0):
                    state[:, p + j] = 0.0
            for j in range(i):
                a[p + j], b[p + j], both[p + j] = returns[i], returns[j], known[i] * known[j]
            p += i
        for p in range(pairs):
            weight = 1.0 - both[p] * (1.0 - decay)
            products[p] = weight * products[p] + both[p] * (a[p] * b[p])
            squares[p] = weight * squares[p] + both[p] * (a[p] * a[p])
            others[p] = weight * others[p] + both[p] * (b[p] * b[p])
            counts[p] += both[p]
        for p in range(pairs):
            scale = np.sqrt(squares[p] * others[p])
            ratio = products[p] / (scale if scale > 0.0 else 1.0)
            # Chosen, not min and max, which would branch.
            ratio = ratio if ratio < 1.0 else 1.0  # noqa: FURB136
            ratio = ratio if ratio > -1.0 else -1.0  # noqa: FURB136
            ratios[p] = ratio if counts[p] >= warm_up else np.nan
        p = 0
        for i in range(symbols):
            out[t, i, i] = 1.0
            for j in range(i):
                out[t, i, j] = ratios[p]
                out[t, j, i] = ratios[p]
                p += 1
