"""What each symbol has in common with the equally weighted market: its beta and correlation."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature, feature


@feature
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
        kernel=_correlation,
        inputs=("correlation.slow", "cross_volatility"),
    )


@feature
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
        kernel=_beta,
        inputs=("correlation.slow", "cross_volatility"),
    )


@njit(cache=True, error_model="numpy")
def _covariances(correlation, volatility, out):  # type: ignore[no-untyped-def]
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


@njit(cache=True, error_model="numpy")
def _correlation(market, state, out):  # type: ignore[no-untyped-def]
    """A pair without a correlation yet contributes nothing."""
    for t in range(out.shape[0]):
        variance, _ = _covariances(market.slow[t], market.volatility[t], out[t])
        for i in range(out.shape[1]):
            if variance > 0.0 and not np.isnan(market.volatility[t, i]):
                out[t, i] = min(1.0, max(-1.0, out[t, i] / np.sqrt(variance)))
            else:
                out[t, i] = np.nan


@njit(cache=True, error_model="numpy")
def _beta(market, state, out):  # type: ignore[no-untyped-def]
    """A pair without a correlation yet contributes nothing."""
    for t in range(out.shape[0]):
        variance, present = _covariances(market.slow[t], market.volatility[t], out[t])
        for i in range(out.shape[1]):
            v = market.volatility[t, i]
            out[t, i] = present * v * out[t, i] / variance if variance > 0.0 else np.nan
