"""What option prices say of volatility: its level, its premium, and the shape of the surface.

None of them is known in a market without options. The level and the premium are the same for all
symbols; skew, term slope and curvature are a symbol's own, and of one without options the mean
over those that have some.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature, Kernel, feature

HOURS_PER_YEAR = 8_760.0


def _surface_feature(
    name: str, formula: str, reference: str, kernel: Kernel, series: str
) -> CrossFeature:
    return CrossFeature(
        name=name,
        family="volatility",
        unit="annual vol",
        formula=formula,
        reference=reference,
        kernel=kernel,
        inputs=(f"context.{series}", "cross_volatility"),
        book_form="mean",
        needs_exogenous=True,
    )


@feature
def implied_volatility() -> CrossFeature:
    """Mean of the implied-volatility indices in force, the same for every symbol.

    Formula: ``mean_j IV_j`` over the symbols that have an index. Unit: annualised volatility.
    NaN where no index is in force and for a symbol in warm-up.

    References
    ----------
    Whaley, Journal of Derivatives 1 (1993) 71-84; Deribit, "DVOL - Deribit Implied Volatility
    Index".
    """
    return CrossFeature(
        name="implied_volatility",
        family="volatility",
        unit="per sqrt(year)",
        formula="mean_j IV_j",
        reference="Whaley (1993)",
        kernel=_implied,
        inputs=("context.implied_volatility", "cross_volatility"),
        book_form="mean",
        needs_exogenous=True,
    )


@feature
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
        kernel=_premium,
        inputs=("context.implied_volatility", "cross_volatility"),
        constants=(HOURS_PER_YEAR,),
        book_form="mean",
        needs_exogenous=True,
    )


@feature
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
    formula = "vol of 25-delta call - vol of 25-delta put at 30 d"
    return _surface_feature("skew_25d", formula, "Bates (1991)", _skew, "skew")


@feature
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
    formula = "vol at the forward: 90 d - 7 d"
    return _surface_feature("atm_term_slope", formula, "Mixon (2007)", _term_slope, "term_slope")


@feature
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
    formula = "mean vol of 25-delta put and call - vol at the forward, 30 d"
    return _surface_feature("smile_curvature", formula, "Malz (1997)", _curvature, "curvature")


@njit(cache=True, error_model="numpy")
def _fill_mean(values, volatility, out):  # type: ignore[no-untyped-def]
    """Fill `out`, shape (T, S), with the mean over the symbols of `values`, shape (S, T).

    NaN for a symbol in warm-up, whose `volatility` (T, S) is NaN, and where no symbol has a value.
    """
    for t in range(out.shape[0]):
        total, count = 0.0, 0
        for j in range(out.shape[1]):
            if not np.isnan(values[j, t]):
                total += values[j, t]
                count += 1
        mean = total / count if count else np.nan
        for i in range(out.shape[1]):
            out[t, i] = np.nan if np.isnan(volatility[t, i]) else mean


@njit(cache=True, error_model="numpy")
def _fill_cross_mean(values, volatility, out):  # type: ignore[no-untyped-def]
    """`_fill_mean`, but a symbol that has a value keeps it."""
    _fill_mean(values, volatility, out)
    for t in range(out.shape[0]):
        for i in range(out.shape[1]):
            if not (np.isnan(volatility[t, i]) or np.isnan(values[i, t])):
                out[t, i] = values[i, t]


@njit(cache=True, error_model="numpy")
def _implied(market, state, out):  # type: ignore[no-untyped-def]
    """One mean for all symbols past their warm-up."""
    _fill_mean(market.implied_volatility, market.volatility, out)


@njit(cache=True, error_model="numpy")
def _premium(market, state, out):  # type: ignore[no-untyped-def]
    """One mean for all symbols past their warm-up."""
    index, v = market.implied_volatility, market.volatility.T
    _fill_mean(index * index - HOURS_PER_YEAR * v * v, market.volatility, out)


@njit(cache=True, error_model="numpy")
def _skew(market, state, out):  # type: ignore[no-untyped-def]
    """The symbol's own, else the mean of those that have one."""
    _fill_cross_mean(market.skew, market.volatility, out)


@njit(cache=True, error_model="numpy")
def _term_slope(market, state, out):  # type: ignore[no-untyped-def]
    """The symbol's own, else the mean of those that have one."""
    _fill_cross_mean(market.term_slope, market.volatility, out)


@njit(cache=True, error_model="numpy")
def _curvature(market, state, out):  # type: ignore[no-untyped-def]
    """The symbol's own, else the mean of those that have one."""
    _fill_cross_mean(market.curvature, market.volatility, out)
