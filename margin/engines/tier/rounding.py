"""Rounding up to a quantum, so that no requirement is understated."""

from __future__ import annotations

import numpy as np

from market.core.arrays import Floats

_NOISE = 8.0 * np.finfo(np.float64).eps
"""Relative error of a few products of float64: what is no further than this above a multiple is
that multiple."""


def round_up(amount: Floats, step: float) -> Floats:
    """The smallest multiple of `step` that is not below `amount`, elementwise.

    Parameters
    ----------
    amount:
        Any shape; NaN and infinities pass on.
    step:
        Above 0. One so small that an amount has more steps than float64 can count leaves that
        amount as it is.
    """
    amount = np.asarray(amount, dtype=np.float64)
    with np.errstate(over="ignore"):
        units = amount / step
    uncountable = ~np.isfinite(units)
    units = np.where(uncountable, 0.0, units)
    nearest = np.rint(units)
    whole = np.where(np.abs(units - nearest) <= _NOISE * np.abs(units), nearest, np.ceil(units))
    whole = np.where(
        (whole == 0.0) & (amount > 0.0) & ~uncountable, 1.0, whole
    )  # a quotient below any float
    # Dividing by the inverse keeps 3 steps of 0.000001 the decimal 0.000003.
    inverse = 1.0 / step
    whole_inverse = np.isfinite(inverse) and abs(inverse - np.rint(inverse)) <= _NOISE * inverse
    exact = np.rint(inverse) if whole_inverse else 0.0
    rounded = whole / exact if exact else whole * step
    return np.where(uncountable, amount, rounded)
