"""Curvature of the smile: what options pay more for large moves than for small ones."""

from __future__ import annotations

from numba import njit

from features.definition import CrossFeature
from features.market.cross_mean import fill_cross_mean


def smile_curvature() -> CrossFeature:
    """How much more vol the wings have than the middle, at thirty days.

    Formula: ``(vol(25-delta put) + vol(25-delta call)) / 2 - vol(at the forward)``, each
    interpolated to 30 days as `features.market.option_surface` says. Unit: annual vol. The
    symbol's own; of one without options the mean over those that have some. NaN where no surface
    is in force and for a symbol in warm-up.

    References
    ----------
    Malz, "Estimating the Probability Distribution of the Future Exchange Rate from Option Prices",
    Journal of Derivatives 5 (1997) 18-36.
    """
    return CrossFeature(
        name="smile_curvature",
        family="volatility",
        unit="annual vol",
        formula="mean vol of 25-delta put and call - vol at the forward, 30 d",
        reference="Malz (1997)",
        kernel=kernel,
        inputs=("context.curvature", "cross_volatility"),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """The symbol's own, else the mean of those that have one."""
    fill_cross_mean(market.curvature, market.volatility, out)
