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
        params=(int(speed == "fast"),),
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out, fast):  # type: ignore[no-untyped-def]
    """`fast` is 1 for the fast correlations."""
    correlation = market.fast if fast else market.slow
    symbols = out.shape[1]
    for t in range(out.shape[0]):
        for i in range(symbols):
            total, pairs = 0.0, 0
            for j in range(symbols):
                if j != i and not np.isnan(correlation[t, i, j]):
                    total += correlation[t, i, j]
                    pairs += 1
            if symbols == 1:
                out[t, i] = 0.0 * market.volatility[t, i]
            else:
                out[t, i] = total / pairs if pairs else np.nan
