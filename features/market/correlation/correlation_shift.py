"""Shift of correlation: fast minus slow."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature


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
        kernel=kernel,
        inputs=("correlation.slow", "correlation.fast", "cross_volatility"),
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """The mean of the differences of the pairs that are past both warm-ups; all symbols at once,
    a row of the matrices at a time."""
    symbols = out.shape[1]
    pairs = np.empty(symbols)
    for t in range(out.shape[0]):
        out[t, :] = 0.0
        pairs[:] = 0.0
        for j in range(symbols):
            for i in range(symbols):
                difference = market.fast[t, j, i] - market.slow[t, j, i]
                counts = j != i and difference == difference
                out[t, i] += difference if counts else 0.0
                pairs[i] += 1.0 if counts else 0.0
        for i in range(symbols):
            if symbols == 1:
                out[t, i] = 0.0 * market.volatility[t, i]
            else:
                out[t, i] = out[t, i] / pairs[i] if pairs[i] > 0.0 else np.nan
