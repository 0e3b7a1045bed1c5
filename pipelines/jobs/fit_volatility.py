"""Fit the coefficients of the volatility forecast to the configured bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from features.market.volatility.forecast.coefficients import (
    FORECAST_HORIZONS,
    shipped_coefficients,
)
from features.registry import FORECAST_VOLATILITIES, PRIOR_VOLATILITIES
from features.state.volatility_fit import (
    fit_coefficients,
    log_volatility_rmse,
    under_coefficients,
)
from market.core.clock import format_time, parse_time
from pipelines.config.config import Config
from pipelines.data.loaders import read_market


def fit_volatility(config: Config, end: str, out: Path) -> dict[str, Any]:
    """Write coefficients fitted to all bars that close up to `end`.

    Returns
    -------
    End, bars, rows, and by horizon the root mean square errors of the log volatility in the
    fitting data and after them: of the fit, of the coefficients in use, and of the mean variance
    of `PRIOR_VOLATILITIES`; null where the bars end with the fitting data.

    Raises
    ------
    DataError
        `end` is no time or past the last bar, or there are too few bars before it.
    """
    market, until = read_market(config), parse_time(end)
    history, features = market.history, market.features
    fitted = fit_coefficients(features, history, until)
    fitted.save(out)
    last = int(history.bars.closes[-1])
    squares = [features.column(name) ** 2 for name in PRIOR_VOLATILITIES]
    mean_of_four = np.sqrt(sum(squares) / len(squares))
    refitted = under_coefficients(features, fitted)
    errors = {}
    for hours, name in zip(FORECAST_HORIZONS, FORECAST_VOLATILITIES, strict=True):
        forecasts = {
            "fitted": refitted.column(name),
            "in_use": features.column(name),
            "mean_of_four": mean_of_four,
        }
        errors[str(hours)] = {
            span: {
                kind: _plain(log_volatility_rmse(forecast, history, hours, begin, stop))
                for kind, forecast in forecasts.items()
            }
            for span, begin, stop in (("fitted_span", 0, until), ("after", until, last))
        }
    return {
        "out": str(out),
        "end": format_time(until),
        "bars_sha256": fitted.bars_sha256,
        "symbols": list(history.bars.symbols),
        "rows": dict(zip(map(str, FORECAST_HORIZONS), fitted.rows, strict=True)),
        "in_use": {
            "end": format_time(shipped_coefficients().end),
            "bars_sha256": shipped_coefficients().bars_sha256,
        },
        "rmse_of_log_volatility": errors,
        "bars": history.report.to_dict(),
    }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
