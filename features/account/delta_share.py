"""Direction of the options of a book."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import GROSS, OPTION_DELTA
from features.definition import AccountFeature


def delta_share() -> AccountFeature:
    """Net delta exposure of the options over the gross exposure of the book.

    Formula: ``sum_o x_o / sum_i |x_i|`` over options o, x being delta exposures and, of spot and
    perps, notionals. Unit: fraction, from -1 to 1. Zero without options.

    References
    ----------
    Hull, Options, Futures, and Other Derivatives, 11th ed. (2021), chapter 19.
    """
    return AccountFeature(
        name="delta_share",
        unit="fraction of gross",
        formula="sum of option deltas / gross",
        reference="Hull (2021), chapter 19",
        kernel=kernel,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        delta, gross = moments[n, OPTION_DELTA], moments[n, GROSS]
        out[n] = delta / gross if gross > 0.0 else 0.0
