"""Mean correlation of a symbol with all others."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit

from features.definition import CrossFeature


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
        kernel=kernel,
        inputs=(f"correlation.{speed}", "cross_volatility"),
        params=(int(speed == "fast"),),
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out, fast):  # type: ignore[no-untyped-def]
    """`fast` is 1 for the fast correlations. All symbols at once, a row of the matrix at a time."""
    correlation = market.fast if fast else market.slow
    symbols = out.shape[1]
    pairs = np.empty(symbols)
    for t in range(out.shape[0]):
        out[t, :] = 0.0
        pairs[:] = 0.0
        for j in range(symbols):
            for i in range(symbols):
                rho = correlation[t, j, i]
                counts = j != i and rho == rho
                out[t, i] += rho if counts else 0.0
                pairs[i] += 1.0 if counts else 0.0
        for i in range(symbols):
            if symbols == 1:
                out[t, i] = 0.0 * market.volatility[t, i]
            else:
                out[t, i] = out[t, i] / pairs[i] if pairs[i] > 0.0 else np.nan
