"""The structural prior: first passage of the account's equity to its maintenance margin."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from features.account.aggregates import HEADROOM, PRIOR_VOLATILITY
from features.account.distance import ratio
from features.definition import AccountFeature, feature
from market.core.lean_kernel import lean_kernel

CLIP = 1e-9
"""The prior probability lies in [CLIP, 1 - CLIP]."""

VOLATILITY_ERROR = {1: 0.49, 8: 0.38, 24: 0.34}
"""Standard deviation of the log of realised over estimated volatility, by horizon in hours.

Measured on 15 coins for exponentially weighted estimates (design notes, evaluation protocol).
"""

DISCRETE_MONITORING = 0.5826
"""Shift of a barrier that is looked at in steps, in standard deviations of one step."""

TAIL_WIDENING = 1.4
"""Factor on `VOLATILITY_ERROR`: hourly returns have fatter tails than a mixture of their
volatility alone. Chosen on fit and calibration months among 1 and 1.4 by the stability of the
calibration slope from month to month."""

# Nine-point Gauss-Hermite rule for a standard normal: nodes and weights.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@feature
def prior_logit(horizon_hours: int) -> AccountFeature:
    """Log odds that a driftless Brownian motion of uncertain volatility falls by the headroom.

    Formula: ``p = sum_k w_k 2 Phi(-(d / m_k + beta / sqrt(h)))`` with
    ``d = headroom / (sigma sqrt(h))`` and beta = 0.5826: the first passage of a path that is
    looked at once an hour, averaged over a log-normal volatility multiplier m with median 1 and
    the log standard deviation `TAIL_WIDENING * VOLATILITY_ERROR` (nine-point Gauss-Hermite rule).
    Over one hour there is one look, and ``Phi(-d / m)`` takes the place of the passage. Clipped
    to [10^-9, 1 - 10^-9], as ``ln(p / (1 - p))``. Sigma is the root of the mean variance under
    the estimates in `PRIOR_VOLATILITIES`. Unit: log odds. At and below zero headroom p is
    1 - 10^-9; NaN in warm-up. It is an input of the model and the score that its trees correct.
    The mixture matters in the tail: under a known volatility one surprise at ten sigma outweighs
    everything.

    References
    ----------
    Black and Cox, Journal of Finance 31 (1976) 351-367 (first passage); Karatzas and Shreve,
    Brownian Motion and Stochastic Calculus (1991), section 2.8 (reflection principle); Broadie,
    Glasserman and Kou, Mathematical Finance 7 (1997) 325-349 (discrete monitoring); Clark,
    Econometrica 41 (1973) 135-155 (log-normal mixture).
    """
    error = TAIL_WIDENING * VOLATILITY_ERROR[horizon_hours]
    return AccountFeature(
        name=f"prior_logit_{horizon_hours}h",
        unit="log odds",
        formula="ln(p / (1 - p)), p = E_m 2 Phi(-(d / m + 0.5826 / sqrt(h))); Phi(-d / m) at 1 h",
        reference="Black and Cox (1976), Broadie et al. (1997), Clark (1973)",
        kernel=kernel,
        inputs=("prior_volatilities", "correlation.slow"),
        constants=(error, DISCRETE_MONITORING, CLIP),
        params=(
            math.sqrt(horizon_hours),
            0.5 if horizon_hours == 1 else 1.0,
            0.0 if horizon_hours == 1 else DISCRETE_MONITORING / math.sqrt(horizon_hours),
            tuple(math.exp(error * float(node)) for node in _NODES),
            tuple(float(weight) for weight in _WEIGHTS),
        ),
        monotone=1,
        uses_equity=True,
    )


@njit(cache=True, error_model="numpy")
def first_passage(headroom, sigma):  # type: ignore[no-untyped-def]
    """``2 Phi(-d)`` for a headroom and a known volatility over the whole horizon, unclipped."""
    return math.erfc(ratio(headroom, sigma) / math.sqrt(2.0))


@lean_kernel
def log_odds(headroom, volatility, root_hours, share, shift, multipliers, weights):  # type: ignore[no-untyped-def]
    """The prior of one account, see `prior_logit`; the parameters are those of its kernel."""
    sigma = volatility * root_hours
    p = 0.0
    for k in range(len(weights)):
        d = ratio(headroom, sigma * multipliers[k])
        p += weights[k] * share * math.erfc((d + shift) / math.sqrt(2.0))
    if headroom <= 0.0 and not np.isnan(p):
        p = 1.0
    if np.isnan(p):
        return np.nan
    p = min(max(p, CLIP), 1.0 - CLIP)
    return math.log(p) - math.log1p(-p)


@njit(cache=True, error_model="numpy")
def kernel(aggregates, out, root_hours, share, shift, multipliers, weights):  # type: ignore[no-untyped-def]
    """`root_hours` is the square root of the horizon, `share` and `shift` the discrete looks."""
    for n in range(len(aggregates)):
        headroom, volatility = aggregates[n, HEADROOM], aggregates[n, PRIOR_VOLATILITY]
        out[n] = log_odds(headroom, volatility, root_hours, share, shift, multipliers, weights)
