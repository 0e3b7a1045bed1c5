"""Mean correlation of a symbol with all others."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature


def mean_correlation() -> CrossFeature:
    """Average pairwise correlation.

    Formula: ``mean over j != i of rho_ij``. Unit: correlation. Pairs in warm-up are left out; NaN
    where a symbol has no pair.

    References
    ----------
    Pollet and Wilson, Journal of Financial Economics 96 (2010) 364-380.
    """
    return CrossFeature(
        name="mean_correlation",
        family="correlation",
        unit="correlation",
        formula="mean_j rho_ij, j != i",
        reference="Pollet and Wilson (2010)",
        kernel=kernel,
    )


@njit(cache=True, error_model="numpy")
def kernel(correlation, volatility, out):  # type: ignore[no-untyped-def]
    """Volatility takes no part."""
    symbols = correlation.shape[1]
    for t in range(correlation.shape[0]):
        for i in range(symbols):
            total, pairs = 0.0, 0
            for j in range(symbols):
                if j != i and not np.isnan(correlation[t, i, j]):
                    total += correlation[t, i, j]
                    pairs += 1
            out[t, i] = total / pairs if pairs else np.nan
