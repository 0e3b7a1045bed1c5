"""Skew of the surface: what options pay more for rises than for falls."""

from __future__ import annotations

from numba import njit

from features.definition import CrossFeature
from features.market.cross_mean import fill_cross_mean


def skew_25d() -> CrossFeature:
    """How much more vol calls of 25 delta have than puts, at thirty days (risk reversal).

    Formula: ``vol(25-delta call) - vol(25-delta put)``, each interpolated to 30 days as
    `features.market.option_surface` says. Unit: annual vol. The symbol's own; of one without
    options the mean over those that have some. NaN where no surface is in force and for a symbol
    in warm-up.

    References
    ----------
    Bates, "The Crash of '87: Was It Expected? The Evidence from Options Markets", Journal of
    Finance 46 (1991) 1009-1044.
    """
    return CrossFeature(
        name="skew_25d",
        family="volatility",
        unit="annual vol",
        formula="vol of 25-delta call - vol of 25-delta put at 30 d",
        reference="Bates (1991)",
        kernel=kernel,
        inputs=("context.skew", "cross_volatility"),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """The symbol's own, else the mean of those that have one."""
    fill_cross_mean(market.skew, market.volatility, out)
