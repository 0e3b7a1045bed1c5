"""Correlation of a symbol with the market factor."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature


def market_correlation() -> CrossFeature:
    """Correlation of a symbol with the equally weighted market.

    Formula: ``sum_j rho_ij v_j / sqrt(sum_jk rho_jk v_j v_k)`` with volatilities v, over the
    symbols past their warm-up. Unit: correlation. NaN in warm-up.

    References
    ----------
    Sharpe, Management Science 9 (1963) 277-293.
    """
    return CrossFeature(
        name="market_correlation",
        family="correlation",
        unit="correlation",
        formula="sum_j rho_ij v_j / sqrt(sum_jk rho_jk v_j v_k)",
        reference="Sharpe (1963)",
        kernel=kernel,
    )


@njit(cache=True, error_model="numpy")
def kernel(correlation, volatility, out):  # type: ignore[no-untyped-def]
    """A pair without a correlation yet contributes nothing."""
    symbols = correlation.shape[1]
    for t in range(correlation.shape[0]):
        variance = 0.0
        for i in range(symbols):
            covariance = 0.0
            for j in range(symbols):
                term = correlation[t, i, j] * volatility[t, j]
                if not np.isnan(term):
                    covariance += term
            out[t, i] = covariance
            if not np.isnan(volatility[t, i]):
                variance += covariance * volatility[t, i]
        for i in range(symbols):
            if variance > 0.0 and not np.isnan(volatility[t, i]):
                out[t, i] = min(1.0, max(-1.0, out[t, i] / np.sqrt(variance)))
            else:
                out[t, i] = np.nan
