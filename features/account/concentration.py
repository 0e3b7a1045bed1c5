"""Concentration of the book."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import HERFINDAHL
from features.definition import AccountFeature


def concentration() -> AccountFeature:
    """Herfindahl index of absolute notionals.

    Formula: ``sum_i x_i^2 / (sum_i |x_i|)^2``. Unit: fraction, 1 for a single position.
    Zero without positions.

    References
    ----------
    Hirschman, American Economic Review 54 (1964) 761-762.
    """
    return AccountFeature(
        name="herfindahl",
        unit="fraction",
        formula="sum x^2 / (sum |x|)^2",
        reference="Hirschman (1964)",
        kernel=kernel,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        out[n] = moments[n, HERFINDAHL]
