"""Mean correlation of a symbol with all others, and how it has shifted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit

from features.definition import CrossFeature, feature


@feature
def mean_correlation(speed: Literal["slow", "fast"]) -> CrossFeature:
    """Average pairwise correlation at one of the two speeds.

    Formula: ``mean over j != i of rho_ij``. Unit: correlation. Pairs in warm-up are left out; NaN
    where a symbol has no pair, 0 past the warm-up in a market of one.

    References
    ----------
    Pollet and Wilson, Journal of Financial Economics 96 (2010) 364-380.
    """
    return CrossFeature(
        name="mean_correlation" if speed == "slow" else "mean_correlation_fast",
        family="correlation",
        unit="correlation",
        formula=f"mean_j rho_ij, j != i, {speed}",
        reference="Pollet and Wilson (2010)",
        kernel=_mean,
        inputs=(f"correlation.{speed}", "cross_volatility"),
        params=(int(speed == "fast"),),
        book_form="mean" if speed == "slow" else None,
    )


@feature
def correlation_shift() -> CrossFeature:
    """How much closer a symbol moves with the others lately than before.

    Formula: ``mean over j != i of rho_ij(fast) - rho_ij(slow)``. Unit: correlation. Pairs in
    warm-up are left out; NaN where a symbol has no pair, 0 past the warm-up in a market of one.

    References
    ----------
    Longin and Solnik, Journal of Finance 56 (2001) 649-676.
    """
    return CrossFeature(
        name="correlation_shift",
        family="correlation",
        unit="correlation",
        formula="mean_j (rho_ij(fast) - rho_ij(slow)), j != i",
        reference="Longin and Solnik (2001)",
        kernel=_shift,
        inputs=("correlation.slow", "correlation.fast", "cross_volatility"),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def _fill_pair_means(matrix, volatility, pairs, out):  # type: ignore[no-untyped-def]
    """Mean of each row of a symmetric matrix over the known pairs, a row at a time."""
    symbols = len(out)
    out[:] = 0.0
    pairs[:] = 0.0
    for j in range(symbols):
        for i in range(symbols):
            value = matrix[j, i]
            counts = j != i and value == value
            out[i] += value if counts else 0.0
            pairs[i] += 1.0 if counts else 0.0
    for i in range(symbols):
        if symbols == 1:
            out[i] = 0.0 * volatility[i]
        else:
            out[i] = out[i] / pairs[i] if pairs[i] > 0.0 else np.nan


@njit(cache=True, error_model="numpy")
def _mean(market, state, out, fast):  # type: ignore[no-untyped-def]
    """`fast` is 1 for the fast correlations."""
    correlation = market.fast if fast else market.slow
    pairs = np.empty(out.shape[1])
    for t in range(out.shape[0]):
        _fill_pair_means(correlation[t], market.volatility[t], pairs, out[t])


@njit(cache=True, error_model="numpy")
def _shift(market, state, out):  # type: ignore[no-untyped-def]
    """Over the pairs that are past both warm-ups."""
    symbols = out.shape[1]
    pairs, difference = np.empty(symbols), np.empty((symbols, symbols))
    for t in range(out.shape[0]):
        np.subtract(market.fast[t], market.slow[t], difference)
        _fill_pair_means(difference, market.volatility[t], pairs, out[t])
