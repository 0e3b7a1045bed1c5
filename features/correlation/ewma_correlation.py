"""Exponentially weighted correlation of all pairs of symbols."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from features.inputs import LOG_RETURN, RESET
from market.clock import Interval

Floats = npt.NDArray[np.float64]


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (4, S, S): products, squares of the row's and of the column's
    symbol, count; below the diagonal.

    The moments of a pair are kept over the bars that both symbols have, so the correlation stays
    within [-1, 1] whatever is missing.
    """
    return np.zeros((4, symbols, symbols))


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
    """Row by row below the diagonal and without branches, so that the compiler can use vectors."""
    symbols = inputs.shape[1]
    products, rows, columns, counts = state[0], state[1], state[2], state[3]
    returns, known = np.empty(symbols), np.empty(symbols)
    for t in range(inputs.shape[2]):
        for i in range(symbols):
            if inputs[RESET, i, t] == 1.0:
                state[:, i, :] = 0.0
                state[:, :, i] = 0.0
            r = inputs[LOG_RETURN, i, t]
            known[i] = 0.0 if np.isnan(r) else 1.0
            returns[i] = 0.0 if np.isnan(r) else r
        for i in range(symbols):
            a, known_a = returns[i], known[i]
            row = out[t, i]
            for j in range(i):
                b = returns[j]
                both = known_a * known[j]
                kept = 1.0 - both * (1.0 - decay)
                products[i, j] = kept * products[i, j] + both * (a * b)
                rows[i, j] = kept * rows[i, j] + both * (a * a)
                columns[i, j] = kept * columns[i, j] + both * (b * b)
                counts[i, j] += both
            for j in range(i):
                scale = np.sqrt(rows[i, j] * columns[i, j])
                ratio = products[i, j] / (scale if scale > 0.0 else 1.0)
                ratio = max(-1.0, min(1.0, ratio))
                row[j] = ratio if counts[i, j] >= warm_up else np.nan
            row[i] = 1.0
            for j in range(i):
                out[t, j, i] = row[j]
