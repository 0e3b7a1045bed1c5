"""What the equally weighted market has in common with each symbol."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def covariances(correlation, volatility, out):  # type: ignore[no-untyped-def]
    """Covariance of each symbol with the sum of all, over its own volatility; shape (S,).

    ``sum_j rho_ij v_j`` over one row of the market; a pair without a correlation yet, or a symbol
    without a volatility, contributes nothing. Returns ``sum_ij rho_ij v_i v_j``, the variance of
    the sum, and the number of symbols that are past their warm-up.
    """
    symbols = len(volatility)
    out[:] = 0.0
    for j in range(symbols):
        v = volatility[j]
        if not np.isnan(v):
            for i in range(symbols):
                term = correlation[j, i] * v
                out[i] += 0.0 if np.isnan(term) else term
    variance, present = 0.0, 0.0
    for i in range(symbols):
        if not np.isnan(volatility[i]):
            variance += out[i] * volatility[i]
            present += 1.0
    return variance, present
