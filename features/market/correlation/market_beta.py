"""Beta: how far a symbol moves with the market."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature
from features.market.correlation.market_factor import covariances


def market_beta() -> CrossFeature:
    """Slope of a symbol's return on that of the equally weighted market.

    Formula: ``N v_i sum_j rho_ij v_j / sum_jk rho_jk v_j v_k`` with volatilities v, over the N
    symbols past their warm-up. Unit: return per return of the market. NaN in warm-up.

    References
    ----------
    Sharpe, Management Science 9 (1963) 277-293.
    """
    return CrossFeature(
        name="market_beta",
        family="correlation",
        unit="return per market return",
        formula="N v_i sum_j rho_ij v_j / sum_jk rho_jk v_j v_k",
        reference="Sharpe (1963)",
        kernel=kernel,
        inputs=("correlation.slow", "cross_volatility"),
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """A pair without a correlation yet contributes nothing."""
    for t in range(out.shape[0]):
        variance, present = covariances(market.slow[t], market.volatility[t], out[t])
        for i in range(out.shape[1]):
            v = market.volatility[t, i]
            out[t, i] = present * v * out[t, i] / variance if variance > 0.0 else np.nan
