"""Distances to a call under the volatility forecast and under the long-run volatility."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from features.account.aggregates import (
    FAST_FORECAST,
    FORECAST_BASE_HOURS,
    FORECAST_SUM,
    GROSS,
    HEADROOM,
    LONG_RUN_VOLATILITY,
)
from features.account.bounded_shares import LIMIT, bounded
from features.account.log_distance import LOG_LIMIT, RATIO_LIMIT, log_distance
from features.definition import AccountFeature, feature
from market.core.errors import ModelError
from market.core.lean_kernel import lean_kernel


@feature
def forecast_distance(
    horizon_hours: int, first_forecast: int, forecast_hours: Sequence[int]
) -> AccountFeature:
    """Log of headroom over the book's volatility forecast for a horizon.

    Formula: ``ln(headroom / sigma_h)`` with ``sigma_h = sqrt(h) v_h``, within ±ln 10^6, where
    ``v_h`` is the book's volatility an hour under the forecast for the next h hours
    (``volatility_forecast_{h}h``), slow correlations, delta plus gamma. Between the horizons of the
    forecast ``ln v_h^2`` is linear in ln h; beyond the longest v_h is that of the longest. Unit:
    log of standard deviations. The lower limit at and below zero headroom, the upper one for a book
    without volatility. NaN in warm-up. It never falls when the account deposits.

    References
    ----------
    Merton, Journal of Finance 29 (1974) 449-470 (distance to default); Corsi, Journal of Financial
    Econometrics 7 (2009) 174-196 (regression of volatility on its own past).
    """
    if horizon_hours < 1:
        raise ModelError(f"horizon is {horizon_hours} h; a distance needs one of 1 or more hours")
    low, high, weight = _between(horizon_hours, forecast_hours)
    columns = [f"volatility_forecast_{forecast_hours[k]}h" for k in sorted({low, high})]
    return AccountFeature(
        name=f"forecast_distance_{horizon_hours}h",
        unit="log of standard deviations",
        formula="ln(headroom / (sqrt(h) v_h)), v_h from " + ", ".join(columns),
        reference="Merton (1974), Corsi (2009)",
        kernel=log_distance_kernel,
        inputs=(*columns, "correlation.slow"),
        constants=(horizon_hours, RATIO_LIMIT),
        family="volatility",
        params=(first_forecast + low, first_forecast + high, weight, math.sqrt(horizon_hours)),
        monotone=-1,
        uses_equity=True,
    )


@feature
def long_run_distance() -> AccountFeature:
    """Log of headroom over the book's long-run volatility of one hour.

    Formula: ``ln(headroom / sigma_long)``, within ±ln 10^6, where ``sigma_long = v_24 e^L
    sum_i |x_i| / sum_i |x_i| f_i``: the notional-weighted mean L of the symbols'
    ``log_volatility_long_run`` as one volatility for all, times the book's present diversification
    ``v_24 / sum_i |x_i| f_i`` under the forecasts f of 24 h. A book of no delta exposure, of
    options alone, takes v_24. Unit: log of hourly standard deviations. Limits and NaN as for
    ``forecast_distance``. Tails have a size of their own: in calm markets jumps do not shrink with
    the forecast.

    References
    ----------
    Merton, Journal of Financial Economics 3 (1976) 125-144 (jumps).
    """
    return AccountFeature(
        name="long_run_distance",
        unit="log of hourly standard deviations",
        formula="ln(headroom / sigma_long), sigma_long = v_24 e^L sum |x| / sum |x| f",
        reference="Merton (1976)",
        kernel=log_distance_kernel,
        inputs=(*_BASE, "log_volatility_long_run"),
        constants=(RATIO_LIMIT,),
        family="volatility",
        params=(LONG_RUN_VOLATILITY, LONG_RUN_VOLATILITY, 0.0, 1.0),
        monotone=-1,
        uses_equity=True,
    )


_BASE = (f"volatility_forecast_{FORECAST_BASE_HOURS}h", "correlation.slow")


@feature
def forecast_term_structure(first_forecast: int, forecast_hours: Sequence[int]) -> AccountFeature:
    """Log of the book's volatility over the next hour against that over the next day.

    Formula: ``ln(v_1 / v_24)`` with the book's volatilities an hour under the forecasts. Unit: log
    ratio, positive where the next hour is expected to be the wildest. Zero for a book without
    volatility; NaN in warm-up.

    References
    ----------
    Corsi, Journal of Financial Econometrics 7 (2009) 174-196.
    """
    hours = list(forecast_hours)
    return AccountFeature(
        name="forecast_term_structure",
        unit="log ratio",
        formula="ln(v_1 / v_24)",
        reference="Corsi (2009)",
        kernel=_log_ratio_kernel,
        inputs=("volatility_forecast_1h", *_BASE),
        family="volatility",
        params=(
            first_forecast + hours.index(1),
            first_forecast + hours.index(FORECAST_BASE_HOURS),
        ),
    )


@feature
def forecast_diversification(first_forecast: int, forecast_hours: Sequence[int]) -> AccountFeature:
    """Volatility of the book over the sum of its legs' own volatilities.

    Formula: ``v_24 / sum_i |x_i| f_i`` with the forecasts f of 24 h. Unit: fraction, 1 for a single
    position, near 0 for a hedged book; above 1 where options curve it, at most `LIMIT`. Zero for a
    book without volatility; NaN in warm-up.

    References
    ----------
    Choueifaty and Coignard, Journal of Portfolio Management 35 (2008) 40-51 (its inverse).
    """
    return AccountFeature(
        name="forecast_diversification",
        unit="fraction",
        formula="v_24 / sum |x| f",
        reference="Choueifaty and Coignard (2008)",
        kernel=_diversification_kernel,
        inputs=_BASE,
        constants=(LIMIT,),
        family="correlation",
        params=(first_forecast + list(forecast_hours).index(FORECAST_BASE_HOURS), FORECAST_SUM),
    )


@feature
def long_run_ratio(mean_log: int) -> AccountFeature:
    """Log of the book's long-run volatility against its forecast of a day.

    Formula: ``ln(sigma_long / v_24) = L + ln(sum_i |x_i| / sum_i |x_i| f_i)``, see
    ``long_run_distance``. Unit: log ratio, positive in markets that are calmer than in the long
    run. Zero for a book of no delta exposure; NaN in warm-up.

    References
    ----------
    Engle and Lee, "A long-run and short-run component model of stock return volatility" (1999).
    """
    return AccountFeature(
        name="long_run_ratio",
        unit="log ratio",
        formula="L + ln(sum |x| / sum |x| f)",
        reference="Engle and Lee (1999)",
        kernel=_long_run_kernel,
        inputs=(_BASE[0], "log_volatility_long_run"),
        family="volatility",
        params=(mean_log,),
    )


@feature
def fast_correlation_ratio(first_forecast: int, forecast_hours: Sequence[int]) -> AccountFeature:
    """Log of the book's volatility under fast correlations against that under slow ones.

    Formula: ``ln(v_24(fast) / v_24)`` with the forecasts of 24 h in both. Unit: log ratio, positive
    where hedges work less of late. Zero for a book without volatility under either; NaN in warm-up.

    References
    ----------
    Longin and Solnik, Journal of Finance 56 (2001) 649-676 (correlations rise in falling markets).
    """
    return AccountFeature(
        name="fast_correlation_ratio",
        unit="log ratio",
        formula="ln(v_24(fast) / v_24)",
        reference="Longin and Solnik (2001)",
        kernel=_log_ratio_kernel,
        inputs=(*_BASE, "correlation.fast"),
        family="correlation",
        params=(
            FAST_FORECAST,
            first_forecast + list(forecast_hours).index(FORECAST_BASE_HOURS),
        ),
    )


def _between(horizon: int, hours: Sequence[int]) -> tuple[int, int, float]:
    """Positions of the forecasts around a horizon and the weight of the later one."""
    high = next((k for k, at in enumerate(hours) if at >= horizon), len(hours) - 1)
    if hours[high] <= horizon or high == 0:
        return high, high, 0.0
    low = high - 1
    return low, high, math.log(horizon / hours[low]) / math.log(hours[high] / hours[low])


@lean_kernel
def interpolated(first, second, weight):  # type: ignore[no-untyped-def]
    """Volatility between two whose log is linear; exactly the first at weight 0."""
    if weight == 0.0:
        return first
    if first <= 0.0 or second <= 0.0:  # a book without volatility
        return max(first, second)
    return math.exp((1.0 - weight) * math.log(first) + weight * math.log(second))


@lean_kernel
def distance_under(headroom, first, second, weight, root_hours):  # type: ignore[no-untyped-def]
    """Log distance of one account under two forecasts; the parameters are those of its kernel."""
    return log_distance(headroom, root_hours * interpolated(first, second, weight))


@njit(cache=True, error_model="numpy")
def log_distance_kernel(aggregates, out, first, second, weight, root_hours):  # type: ignore[no-untyped-def]
    """`first` and `second` are the aggregates that hold the volatilities."""
    for n in range(len(aggregates)):
        row = aggregates[n]
        out[n] = distance_under(row[HEADROOM], row[first], row[second], weight, root_hours)


@njit(cache=True, error_model="numpy")
def _log_ratio_kernel(aggregates, out, above, below):  # type: ignore[no-untyped-def]
    """`above` and `below` are the aggregates of the ratio."""
    for n in range(len(aggregates)):
        numerator, denominator = aggregates[n, above], aggregates[n, below]
        if np.isnan(numerator) or np.isnan(denominator):
            out[n] = np.nan
        elif numerator <= 0.0 or denominator <= 0.0:
            out[n] = 0.0
        else:
            out[n] = min(max(np.log(numerator / denominator), -LOG_LIMIT), LOG_LIMIT)


@njit(cache=True, error_model="numpy")
def _long_run_kernel(aggregates, out, mean_log):  # type: ignore[no-untyped-def]
    """`mean_log` is the aggregate of the mean log volatility in the long run."""
    for n in range(len(aggregates)):
        gross, total = aggregates[n, GROSS], aggregates[n, FORECAST_SUM]
        no_exposure = gross == 0.0 or total == 0.0
        out[n] = 0.0 if no_exposure else aggregates[n, mean_log] + np.log(gross / total)


@njit(cache=True, error_model="numpy")
def _diversification_kernel(aggregates, out, book, total):  # type: ignore[no-untyped-def]
    """`book` and `total` are the aggregates of the book's and its legs' volatilities."""
    for n in range(len(aggregates)):
        sigma = aggregates[n, book]
        out[n] = 0.0 if sigma == 0.0 else bounded(sigma, aggregates[n, total])
