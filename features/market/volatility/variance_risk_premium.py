"""Variance risk premium: implied over realised variance."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature

HOURS_PER_YEAR = 8_760.0


def variance_risk_premium() -> CrossFeature:
    """Mean excess of implied over recent variance, the same for every symbol.

    Formula: ``mean_j (IV_j^2 - 8760 v_j^2)`` over the symbols that have an index, with the slow
    exponentially weighted volatility v of the hourly return. Unit: variance a year. NaN where no
    index is in force and for a symbol in warm-up.

    References
    ----------
    Bollerslev, Tauchen and Zhou, Review of Financial Studies 22 (2009) 4463-4492.
    """
    return CrossFeature(
        name="variance_risk_premium",
        family="volatility",
        unit="per year",
        formula="mean_j (IV_j^2 - 8760 v_j^2)",
        reference="Bollerslev, Tauchen and Zhou (2009)",
        kernel=kernel,
        inputs=("context.implied_volatility", "cross_volatility"),
        constants=(HOURS_PER_YEAR,),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """One mean for all symbols past their warm-up."""
    for t in range(out.shape[0]):
        total, count = 0.0, 0
        for j in range(out.shape[1]):
            index, v = market.implied_volatility[j, t], market.volatility[t, j]
            premium = index * index - HOURS_PER_YEAR * v * v
            if not np.isnan(premium):
                total += premium
                count += 1
        mean = total / count if count else np.nan
        for i in range(out.shape[1]):
            out[t, i] = np.nan if np.isnan(market.volatility[t, i]) else mean
