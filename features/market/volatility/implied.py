"""Implied volatility: what option prices expect of the market."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature


def implied_volatility() -> CrossFeature:
    """Mean of the implied-volatility indices in force, the same for every symbol.

    Formula: ``mean_j IV_j`` over the symbols that have an index. Unit: annualised volatility.
    NaN where no index is in force and for a symbol in warm-up.

    References
    ----------
    Whaley, Journal of Derivatives 1 (1993) 71-84; Deribit, "DVOL - Deribit Implied Volatility
    Index".
    """
    return CrossFeature(
        name="implied_volatility",
        family="volatility",
        unit="per sqrt(year)",
        formula="mean_j IV_j",
        reference="Whaley (1993)",
        kernel=kernel,
        inputs=("context.implied_volatility", "cross_volatility"),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """One mean for all symbols past their warm-up."""
    for t in range(out.shape[0]):
        total, count = 0.0, 0
        for j in range(out.shape[1]):
            index = market.implied_volatility[j, t]
            if not np.isnan(index):
                total += index
                count += 1
        mean = total / count if count else np.nan
        for i in range(out.shape[1]):
            out[t, i] = np.nan if np.isnan(market.volatility[t, i]) else mean
