"""Correlation of a symbol with the market factor."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature
from features.market.correlation.market_factor import covariances


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
        inputs=("correlation.slow", "cross_volatility"),
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """A pair without a correlation yet contributes nothing."""
    for t in range(out.shape[0]):
        variance, _ = covariances(market.slow[t], market.volatility[t], out[t])
        for i in range(out.shape[1]):
            if variance > 0.0 and not np.isnan(market.volatility[t, i]):
                out[t, i] = min(1.0, max(-1.0, out[t, i] / np.sqrt(variance)))
            else:
                out[t, i] = np.nan
