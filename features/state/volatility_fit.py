"""Fit of the volatility forecast: coefficients from history, forecasts under them, their errors."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from numba import njit

from features.market import inputs
from features.market.volatility.forecast import hours
from features.market.volatility.forecast.coefficients import (
    FORECAST_HORIZONS,
    TERMS,
    VolatilityCoefficients,
)
from features.market.volatility.forecast.forecast import forecast_volatility
from features.market.volatility.forecast.regressors import COUNT
from features.registry import FORECAST_VOLATILITIES, MARKET_COLUMNS, REGRESSORS
from features.state.market_state import MarketFeatures
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, format_time
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RIDGE = 50.0
"""Added to the diagonal of the normal equations."""

_FEWEST_ROWS = 100 * len(TERMS)
_BLOCK_ROWS = 4_096
_FIRST_REGRESSOR = MARKET_COLUMNS.index(REGRESSORS[0])
_AHEAD = tuple(
    MARKET_COLUMNS.index(f"seasonal_log_volatility_ahead_{h}h") for h in FORECAST_HORIZONS
)
_FORECASTS = tuple(MARKET_COLUMNS.index(name) for name in FORECAST_VOLATILITIES)


def fit_coefficients(
    features: MarketFeatures, history: MarketHistory, end: int
) -> VolatilityCoefficients:
    """Coefficients of every horizon, pooled over symbols and hours.

    For horizon h the ridge regression of ``ln(mean g over (t, t + h]) / 2 - S`` on ``[x, 1, S]``,
    by normal equations with 50 on the diagonal: x the regressors, S the log seasonality ahead, g
    the hourly variances. Rows: every close of an hour t with t + h <= `end`, and every symbol with
    finite regressors and at least half of the h hours to come.

    Parameters
    ----------
    features:
        Of the bars of `history`, the same rows.
    history:
        What became known in time.
    end:
        End of the fitting data in nanoseconds; bars that close later are not read.

    Raises
    ------
    DataError
        The features are of other rows, `end` is past the last close, or there are under 2,700
        rows before it.
    """
    bars = history.bars
    if not np.array_equal(features.closes, bars.closes) or features.symbols != bars.symbols:
        raise DataError(
            f"features of {len(features.closes)} rows do not belong to the {len(bars)} bars of "
            "the history; compute them from the same bars"
        )
    if not len(bars) or end > bars.closes[-1]:
        last = format_time(int(bars.closes[-1])) if len(bars) else "nothing"
        raise DataError(
            f"the coefficients are to be fitted up to {format_time(end)} and the bars end at "
            f"{last}; give an earlier end or more bars"
        )
    used = bars.rows(0, int(np.searchsorted(bars.closes, end, side="right")))
    rows, variance = hourly_variance(used)
    values, counts = np.empty((len(FORECAST_HORIZONS), len(TERMS))), []
    for k, horizon in enumerate(FORECAST_HORIZONS):
        target = realised_log_volatility(variance, horizon)
        gram, moment, count = np.zeros((len(TERMS), len(TERMS))), np.zeros(len(TERMS)), 0
        for s in range(len(used.symbols)):
            own = features.values[rows, s]
            ahead = own[:, _AHEAD[k]]
            x = np.column_stack(
                [own[:, _FIRST_REGRESSOR : _FIRST_REGRESSOR + COUNT], np.ones(len(own)), ahead]
            )
            y = target[:, s] - ahead
            known = np.isfinite(y) & np.isfinite(x).all(axis=1)
            gram += x[known].T @ x[known]
            moment += x[known].T @ y[known]
            count += int(known.sum())
        if count < _FEWEST_ROWS:
            raise DataError(
                f"{count} rows of symbols and hours before {format_time(end)} have a week behind "
                f"them and {horizon} h to come; {_FEWEST_ROWS} are needed: give more bars or a "
                "later end"
            )
        values[k] = np.linalg.solve(gram + RIDGE * np.eye(len(TERMS)), moment)
        counts.append(count)
    return VolatilityCoefficients(end, _sha256(used), tuple(counts), values)


def under_coefficients(
    features: MarketFeatures, coefficients: VolatilityCoefficients
) -> MarketFeatures:
    """The same features with the forecast columns recomputed under other coefficients.

    Bit for bit those that the market state computes if the coefficients are the shipped ones.
    """
    values = features.values.copy()
    _recompute(
        values,
        _FIRST_REGRESSOR,
        np.array(_AHEAD, dtype=np.int64),
        np.array(_FORECASTS, dtype=np.int64),
        coefficients.values,
    )
    return replace(features, values=values)


def log_volatility_rmse(
    forecast: Floats, history: MarketHistory, horizon: int, begin: int, end: int
) -> float:
    """Root mean square error of the log of a forecast volatility.

    Parameters
    ----------
    forecast:
        Per sqrt(hour), at each bar's close, shape (T, S); NaN where there is none.
    history:
        The bars.
    horizon:
        Hours; the outcome is ``ln(mean g over (t, t + h]) / 2``.
    begin, end:
        Decision times t with begin < t and t + h <= end count, nanoseconds.

    Returns
    -------
    NaN where no row counts.
    """
    until = int(np.searchsorted(history.bars.closes, end, side="right"))
    rows, variance = hourly_variance(history.bars.rows(0, until))
    errors = np.log(forecast[rows]) - realised_log_volatility(variance, horizon)
    errors = errors[history.bars.closes[rows] > begin]
    known = errors[np.isfinite(errors)]
    return float(np.sqrt(np.mean(known * known))) if len(known) else float("nan")


def hourly_variance(bars: BarPanel) -> tuple[Ints, Floats]:
    """Rows that close an hour, shape (H,), and the variances g of these hours, shape (H, S).

    NaN where an hour has no bar.
    """
    symbols = len(bars.symbols)
    rows = np.flatnonzero(bars.closes % HOUR == 0)
    variance = np.empty((len(bars), symbols))
    start, state = inputs.new_state(symbols), np.zeros((symbols, hours.STATE_SIZE))
    for first in range(0, len(bars), _BLOCK_ROWS):
        piece = bars.rows(first, first + _BLOCK_ROWS)
        columns = inputs.new_inputs(piece)
        inputs.build(piece, start, columns)
        hourly = np.empty((hours.WIDTH, symbols, len(piece)))
        hours.kernel(columns, state, hourly)
        variance[first : first + len(piece)] = hourly[hours.VARIANCE].T
    return rows, variance[rows]


def realised_log_volatility(variance: Floats, horizon: int) -> Floats:
    """``ln(mean g) / 2`` over the `horizon` hours after each, shape (H, S).

    NaN where they are not all over, or under half of them have a bar.
    """
    known = np.isfinite(variance)
    zero = np.zeros((1, variance.shape[1]))
    sums = np.concatenate([zero, np.cumsum(np.where(known, variance, 0.0), axis=0)])
    counts = np.concatenate([zero, np.cumsum(known, axis=0)])
    out = np.full(variance.shape, np.nan)
    whole = len(variance) - horizon
    if whole > 0:
        count = counts[1 + horizon :] - counts[1:-horizon]
        mean = (sums[1 + horizon :] - sums[1:-horizon]) / np.where(count > 0.0, count, np.nan)
        out[:whole] = np.where(2.0 * count >= horizon, 0.5 * np.log(mean), np.nan)
    return out


@njit(cache=True, error_model="numpy")
def _recompute(values, first, ahead, forecasts, coefficients):  # type: ignore[no-untyped-def]
    """Write the forecast columns of `values`, shape (T, S, F), from those before them."""
    x = np.empty(COUNT)
    for t in range(values.shape[0]):
        for s in range(values.shape[1]):
            for i in range(COUNT):
                x[i] = values[t, s, first + i]
            for k in range(len(ahead)):
                values[t, s, forecasts[k]] = forecast_volatility(
                    x, values[t, s, ahead[k]], coefficients[k]
                )


def _sha256(bars: BarPanel) -> str:
    digest = hashlib.sha256("\n".join((bars.interval.name, *bars.symbols)).encode())
    digest.update(np.ascontiguousarray(bars.opens).data)
    digest.update(np.ascontiguousarray(bars.values).data)
    return digest.hexdigest()
