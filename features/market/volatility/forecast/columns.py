"""Columns of the volatility forecast: what each of them is; one kernel computes them all.

g is the variance of an hourly bar, s the seasonal profile by hour of the week, w = g exp(-s).
"""

from __future__ import annotations

from dataclasses import replace

from features.definition import Family, GroupFeature, feature
from features.market.volatility.forecast.coefficients import (
    FORECAST_HORIZONS,
    shipped_coefficients,
)
from features.market.volatility.forecast.forecast import kernel
from features.market.volatility.forecast.hours import VARIANCE_FLOOR
from features.market.volatility.forecast.regressors import (
    LONG_RUN_HOURS,
    REGRESSORS,
    RETURN_LIMIT,
    WEEK,
)
from features.market.volatility.forecast.seasonal_profile import (
    DECAY,
    INNER,
    MIDDLE,
    OUTER,
    PRIOR_WEEKS,
)

_HAR = "Corsi (2009)"
_PROFILE = (VARIANCE_FLOOR, DECAY, PRIOR_WEEKS, INNER, MIDDLE, OUTER)


def _column(
    name: str,
    settings: tuple[float, ...],
    formula: str,
    *,
    reference: str = _HAR,
    unit: str = "log of per sqrt(hour)",
    family: Family = "volatility",
    constants: tuple[float, ...] = (),
) -> GroupFeature:
    return GroupFeature(
        name=name,
        family=family,
        unit=unit,
        formula=formula,
        reference=reference,
        kernel=kernel,
        constants=(*_PROFILE, *constants),
        settings=settings,
        book_form="mean",
    )


@feature
def log_volatility(hours: int) -> GroupFeature:
    """Log volatility of the last `hours` hours without the seasonality of the week.

    Formula: ``ln(mean(w)) / 2`` over the last hourly bars, or over all there are. Unit: log of a
    standard deviation of the hourly log return. A missing bar is skipped; NaN in the first week
    and in the week after a gap of over a day.

    References
    ----------
    Corsi, Journal of Financial Econometrics 7 (2009) 174-196; Garman and Klass, Journal of
    Business 53 (1980) 67-78.
    """
    return _column(f"log_volatility_{hours}h", (float(hours),), "ln(mean(w)) / 2")


@feature
def log_ewma_volatility(half_life: float) -> GroupFeature:
    """Log of the exponentially weighted volatility without the seasonality of the week.

    Formula: ``ln(max(EWMA(r^2 exp(-s)), 2.5e-8)) / 2`` over hourly returns, the weights of a
    half-life in hourly bars normalised to one. Unit: log of a standard deviation of the hourly log
    return. A missing bar is skipped; NaN in the first week and in the week after a gap of over a
    day.

    References
    ----------
    RiskMetrics Technical Document (1996); Corsi, Journal of Financial Econometrics 7 (2009)
    174-196.
    """
    return _column(
        f"log_ewma_volatility_{half_life:g}h",
        (half_life,),
        "ln(max(EWMA(r^2 exp(-s)), 2.5e-8)) / 2",
        reference="RiskMetrics (1996)",
    )


@feature
def log_volatility_long_run() -> GroupFeature:
    """Mean log volatility of the last year of hourly bars, or of all there are.

    Formula: ``mean(ln(w) / 2)`` over 8,760 bars. Unit: log of a standard deviation of the hourly
    log return. A missing bar is skipped and no gap erases it; NaN in the first week and in the
    week after a gap of over a day.

    References
    ----------
    Corsi, Journal of Financial Econometrics 7 (2009) 174-196.
    """
    return _column("log_volatility_long_run", (float(LONG_RUN_HOURS),), "mean(ln(w) / 2)")


@feature
def log_volatility_dispersion() -> GroupFeature:
    """How much the log volatility of four hours varied in a week.

    Formula: the standard deviation over 168 hourly bars of ``ln(mean_4h(w)) / 2``, divisor 168, or
    over all there are. Unit: log ratio. A missing bar is skipped; NaN in the first week and in the
    week after a gap of over a day.

    References
    ----------
    Corsi, Mittnik, Pigorsch and Pigorsch, Econometric Reviews 27 (2008) 46-78.
    """
    return _column(
        "log_volatility_dispersion_168h",
        (float(WEEK),),
        "sd_168h(ln(mean_4h(w)) / 2)",
        reference="Corsi, Mittnik, Pigorsch and Pigorsch (2008)",
        unit="log ratio",
    )


@feature
def scaled_return(hours: int) -> GroupFeature:
    """Return of the last `hours` hourly bars in units of the week's volatility.

    Formula: ``sum(r) / (sigma sqrt(k))`` clipped to +-6, sigma^2 the mean of w over the last 168
    bars, k the bars summed. Unit: standard deviations. A missing bar is skipped; NaN in the first
    week and in the week after a gap of over a day.

    References
    ----------
    Corsi and Renò, Journal of Business and Economic Statistics 30 (2012) 368-380.
    """
    return _column(
        f"scaled_return_{hours}h",
        (float(hours),),
        "clip(sum(r) / (sqrt(mean_168h(w)) sqrt(k)), -6, 6)",
        reference="Corsi and Renò (2012)",
        unit="standard deviations",
        family="momentum",
        constants=(RETURN_LIMIT,),
    )


@feature
def absolute_scaled_return(hours: int) -> GroupFeature:
    """Absolute value of the scaled return of the last `hours` hourly bars.

    Formula: ``|scaled_return|``. Unit: standard deviations. A missing bar is skipped; NaN in the
    first week and in the week after a gap of over a day.

    References
    ----------
    Corsi and Renò, Journal of Business and Economic Statistics 30 (2012) 368-380.
    """
    return _column(
        f"absolute_scaled_return_{hours}h",
        (float(hours),),
        f"abs(scaled_return_{hours}h)",
        reference="Corsi and Renò (2012)",
        unit="standard deviations",
        constants=(RETURN_LIMIT,),
    )


@feature
def seasonal_log_volatility() -> GroupFeature:
    """Seasonal part of the log volatility of the last hourly bar.

    Formula: ``s / 2`` of the hour of the week of the symbol's last bar, as known before it; see
    `features.market.volatility.forecast.seasonal_profile`. Unit: log ratio. A missing bar is
    skipped; NaN in the first week and in the week after a gap of over a day.

    References
    ----------
    Andersen and Bollerslev, Journal of Empirical Finance 4 (1997) 115-158.
    """
    return _column(
        "seasonal_log_volatility",
        (),
        "s / 2",
        reference="Andersen and Bollerslev (1997)",
        unit="log ratio",
    )


@feature
def log_turnover_ratio(hours: int) -> GroupFeature:
    """Log turnover of the last `hours` hourly bars against that of the week.

    Formula: ``mean_k(x) - mean_168(x)`` with ``x = ln(1 + V C)`` over the last hourly bars; one
    unit of the settlement currency keeps it finite without trades. Unit: log ratio. A missing bar
    is skipped; NaN in the first week and in the week after a gap of over a day.

    References
    ----------
    Lo and Wang, Review of Financial Studies 13 (2000) 257-300.
    """
    return _column(
        f"log_turnover_ratio_{hours}h",
        (float(hours),),
        "mean(x) - mean_168h(x), x = ln(1 + V C)",
        reference="Lo and Wang (2000)",
        unit="log ratio",
        family="liquidity",
    )


@feature
def seasonal_log_volatility_ahead(hours: int) -> GroupFeature:
    """Seasonal part of the log volatility of the `hours` hours to come.

    Formula: ``ln(mean_k exp(s(t + k))) / 2`` over the hours k = 1 to h after the close, by the
    profile known at the close. Unit: log ratio. It moves with the clock, bar or no bar; NaN in the
    first week and in the week after a gap of over a day.

    References
    ----------
    Andersen and Bollerslev, Journal of Empirical Finance 4 (1997) 115-158.
    """
    column = _column(
        f"seasonal_log_volatility_ahead_{hours}h",
        (float(hours),),
        "ln(mean_k exp(s(t + k))) / 2",
        reference="Andersen and Bollerslev (1997)",
        unit="log ratio",
    )
    return replace(column, book_form=None)


@feature
def volatility_forecast(hours: int) -> GroupFeature:
    """Forecast of the volatility of the `hours` hours to come.

    Formula: ``exp(S + beta . [x, 1, S])`` with the 25 regressors x, the log seasonality S of the
    hours to come, and coefficients fitted by ``margincast fit-volatility``, which are part of the
    column's identity. Unit: standard deviation of the hourly log return. Between bars it moves with
    S alone; NaN in the first week and in the week after a gap of over a day.

    References
    ----------
    Corsi, Journal of Financial Econometrics 7 (2009) 174-196.
    """
    shipped = shipped_coefficients()
    coefficients = shipped.values[FORECAST_HORIZONS.index(hours)]
    column = _column(
        f"volatility_forecast_{hours}h",
        (float(hours),),
        "exp(S + beta . [x, 1, S]), S = seasonal log volatility ahead",
        unit="per sqrt(hour)",
        constants=tuple(coefficients.tolist()),
    )
    read = (*REGRESSORS, f"seasonal_log_volatility_ahead_{hours}h")
    return replace(column, book_form="forecast", inputs=read)
