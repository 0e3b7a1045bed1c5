"""Slope of the term structure of at-the-money vol."""

from __future__ import annotations

from numba import njit

from features.definition import CrossFeature
from features.market.cross_mean import fill_cross_mean


def atm_term_slope() -> CrossFeature:
    """How much more vol three months have than a week, at the money.

    Formula: ``vol(90 d) - vol(7 d)`` at the forward, each interpolated as
    `features.market.option_surface` says. Unit: annual vol; negative in stress. The symbol's own;
    of one without options the mean over those that have some. NaN where no surface is in force and
    for a symbol in warm-up.

    References
    ----------
    Mixon, "The implied volatility term structure of stock index options", Journal of Empirical
    Finance 14 (2007) 333-354.
    """
    return CrossFeature(
        name="atm_term_slope",
        family="volatility",
        unit="annual vol",
        formula="vol at the forward: 90 d - 7 d",
        reference="Mixon (2007)",
        kernel=kernel,
        inputs=("context.term_slope", "cross_volatility"),
        needs_context=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """The symbol's own, else the mean of those that have one."""
    fill_cross_mean(market.term_slope, market.volatility, out)
