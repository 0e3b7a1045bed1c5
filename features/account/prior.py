"""The structural prior: first passage of the account's equity to its maintenance margin."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from features.account.distance import ratio
from features.account.moments import HEADROOM, PRIOR_VOLATILITY
from features.definition import AccountFeature

CLIP = 1e-9
"""The prior probability lies in [CLIP, 1 - CLIP]."""


def prior_logit(horizon_hours: int) -> AccountFeature:
    """Log odds that a driftless Brownian motion falls by the headroom within the horizon.

    Formula: ``p = 2 Phi(-d) = erfc(d / sqrt(2))`` with ``d = headroom / (sigma sqrt(h))``, clipped
    to [10^-9, 1 - 10^-9], as ``ln(p / (1 - p))``. Sigma is the root of the mean variance under
    the estimates in `PRIOR_VOLATILITIES`. Unit: log odds. At and below zero headroom p is
    1 - 10^-9; NaN in warm-up. It is an input of the model and the score that its trees correct.

    References
    ----------
    Black and Cox, Journal of Finance 31 (1976) 351-367 (first passage); Karatzas and Shreve,
    Brownian Motion and Stochastic Calculus (1991), section 2.8 (reflection principle).
    """
    return AccountFeature(
        name=f"prior_logit_{horizon_hours}h",
        unit="log odds",
        formula="ln(p / (1 - p)), p = erfc(headroom / (sigma sqrt(2 h)))",
        reference="Black and Cox (1976)",
        kernel=kernel,
        params=(math.sqrt(horizon_hours),),
        monotone=1,
        uses_equity=True,
    )


@njit(cache=True, error_model="numpy")
def first_passage(headroom, sigma):  # type: ignore[no-untyped-def]
    """Probability for a headroom and the volatility over the whole horizon, unclipped."""
    return math.erfc(ratio(headroom, sigma) / math.sqrt(2.0))


@njit(cache=True, error_model="numpy")
def kernel(moments, out, root_hours):  # type: ignore[no-untyped-def]
    """`root_hours` is the square root of the horizon."""
    for n in range(len(moments)):
        p = first_passage(moments[n, HEADROOM], moments[n, PRIOR_VOLATILITY] * root_hours)
        if np.isnan(p):
            out[n] = np.nan
        else:
            p = min(max(p, CLIP), 1.0 - CLIP)
            out[n] = math.log(p) - math.log1p(-p)
