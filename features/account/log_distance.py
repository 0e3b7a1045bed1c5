"""Logarithm of headroom over volatility, defined for every account."""

from __future__ import annotations

import math

import numpy as np

from market.core.lean_kernel import lean_kernel

RATIO_LIMIT = 1e6
LOG_LIMIT = math.log(RATIO_LIMIT)
"""Log distances lie in the range ±LOG_LIMIT: ratios from 1e-6 to `RATIO_LIMIT`."""


@lean_kernel
def log_distance(headroom, sigma):  # type: ignore[no-untyped-def]
    """``ln(headroom / sigma)`` of one account, clipped to ±`LOG_LIMIT`.

    The lower limit at and below zero headroom, whatever the volatility; the upper limit for no
    volatility and some headroom; NaN where either is NaN. Never falls when the headroom rises:
    division, logarithm and clipping are each monotone in floating point, and near the limits the
    ratio may overflow to infinity or underflow to 0, which are clipped alike.
    """
    if np.isnan(headroom) or np.isnan(sigma):
        return np.nan
    if headroom <= 0.0:
        return -LOG_LIMIT
    if sigma <= 0.0:
        return LOG_LIMIT
    ratio = headroom / sigma
    if np.isnan(ratio):  # infinity over infinity
        return np.nan
    if ratio <= 1.0 / RATIO_LIMIT:
        return -LOG_LIMIT
    if ratio >= RATIO_LIMIT:
        return LOG_LIMIT
    return min(max(math.log(ratio), -LOG_LIMIT), LOG_LIMIT)
