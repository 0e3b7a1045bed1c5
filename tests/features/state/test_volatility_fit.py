"""Fit of the volatility forecast's coefficients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from features.market.volatility.forecast.coefficients import (
    FORECAST_HORIZONS,
    TERMS,
    VolatilityCoefficients,
    shipped_coefficients,
)
from features.registry import FORECAST_VOLATILITIES, PRIOR_VOLATILITIES, REGRESSORS
from features.state.market_state import MarketFeatures, MarketState
from features.state.volatility_fit import (
    fit_coefficients,
    hourly_variance,
    log_volatility_rmse,
    realised_log_volatility,
    under_coefficients,
)
from market.bars.history import MarketHistory, load_history
from market.bars.panel import BarPanel
from market.core.clock import HOUR, INTERVALS, parse_time
from market.core.errors import DataError, ModelError
from market.sources.parquet import BarFolder

Floats = npt.NDArray[np.float64]
Market = tuple[MarketHistory, MarketFeatures]
Advance = Callable[[BarPanel], MarketFeatures]


@pytest.fixture(scope="module")
def market(make_panel: Callable[..., BarPanel], advance: Advance) -> Market:
    panel = make_panel(2_400, seed=3)
    panel.values[700:705, 1] = np.nan
    return MarketHistory.from_panel(panel), advance(panel)


def test_shipped_coefficients_give_the_columns_of_the_state_to_the_last_bit(
    market: Market, same_bits: Callable[[Floats, Floats], bool]
) -> None:
    _, features = market
    assert same_bits(under_coefficients(features, shipped_coefficients()).values, features.values)


def test_coefficients_solve_the_ridge_regression_of_their_definition(market: Market) -> None:
    history, features = market
    end = int(features.closes[2_000])
    fitted = fit_coefficients(features, history, end)
    variance = _variance(history.bars)
    for k, h in enumerate(FORECAST_HORIZONS):
        x, y = [], []
        for t in range(2_001 - h):
            for s in range(3):
                ahead = features.column(f"seasonal_log_volatility_ahead_{h}h")[t, s]
                row = [*(features.column(name)[t, s] for name in REGRESSORS), 1.0, ahead]
                coming = variance[t + 1 : t + 1 + h, s]
                there = coming[np.isfinite(coming)]
                if 2 * len(there) >= h and np.isfinite(row).all():
                    x.append(row)
                    y.append(0.5 * np.log(there.mean()) - ahead)
        # Ridge as least squares with one more row for each coefficient.
        stacked = np.vstack([np.array(x), np.sqrt(50.0) * np.eye(len(TERMS))])
        expected = np.linalg.lstsq(stacked, np.array(y + [0.0] * len(TERMS)))[0]
        assert fitted.rows[k] == len(y)
        np.testing.assert_allclose(fitted.values[k], expected, rtol=1e-5, atol=1e-7)
    assert fitted.end == end


def _variance(bars: BarPanel) -> Floats:
    opening, high, low, close = np.moveaxis(bars.values[:, :, :4], 2, 0)
    reach, body = np.log(high / low), np.log(close / opening)
    return np.maximum(0.5 * reach**2 - (2.0 * np.log(2.0) - 1.0) * body**2, 2.5e-8)


def test_bars_after_the_end_are_not_read(market: Market) -> None:
    history, features = market
    end = int(features.closes[2_000])
    values, columns = history.bars.values.copy(), features.values.copy()
    values[2_001:] *= 1.5
    columns[2_001:] += 1.0
    other = replace(history, bars=replace(history.bars, values=values))
    a = fit_coefficients(features, history, end)
    b = fit_coefficients(replace(features, values=columns), other, end)
    assert a.content() == b.content()
    values[1_999] *= 1.001
    assert fit_coefficients(features, other, end).bars_sha256 != a.bars_sha256


def test_an_end_that_the_bars_do_not_reach_is_refused(market: Market) -> None:
    history, features = market
    with pytest.raises(DataError, match="bars end at"):
        fit_coefficients(features, history, int(features.closes[-1]) + HOUR)
    with pytest.raises(DataError, match="2700 are needed"):
        fit_coefficients(features, history, int(features.closes[300]))
    shorter = replace(history, bars=history.bars.rows(0, 2_000))
    with pytest.raises(DataError, match="do not belong"):
        fit_coefficients(features, shorter, int(features.closes[1_500]))


def test_finer_bars_give_the_variances_of_whole_hours(
    make_panel: Callable[..., BarPanel],
) -> None:
    panel = make_panel(9_000, interval="30m")
    rows, variance = hourly_variance(panel)
    assert (panel.closes[rows] % HOUR == 0).all()
    halves = panel.values.reshape(4_500, 2, 3, 5)
    hourly = np.stack(
        [
            halves[:, 0, :, 0],
            halves[:, :, :, 1].max(axis=1),
            halves[:, :, :, 2].min(axis=1),
            halves[:, 1, :, 3],
        ],
        axis=2,
    )
    expected = _variance(replace(panel, opens=panel.opens[::2], values=hourly))
    np.testing.assert_allclose(variance, expected, rtol=1e-9)


def test_outcomes_need_half_of_their_hours() -> None:
    variance = np.array([[1.0], [np.nan], [4.0], [np.nan], [np.nan], [9.0]])
    found = realised_log_volatility(variance, 2)[:, 0]
    expected = [0.5 * np.log(4.0), 0.5 * np.log(4.0), np.nan, 0.5 * np.log(9.0), np.nan, np.nan]
    np.testing.assert_allclose(found, expected)


def test_files_are_read_as_written_and_damage_is_refused(tmp_path: Path) -> None:
    shipped = shipped_coefficients()
    shipped.save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    read = VolatilityCoefficients.from_content(content, "c.json")
    assert read.content() == shipped.content()
    assert np.array_equal(read.values, shipped.values)
    for damage in (
        {"horizons": [1, 8]},
        {"coefficients": [[0.0]]},
        {"end": "yesterday"},
        {"rows": [1]},
    ):
        with pytest.raises(ModelError, match=r"c\.json"):
            VolatilityCoefficients.from_content(content | damage, "c.json")


@pytest.mark.realdata
def test_forecast_beats_the_mean_of_four_estimators_after_its_fitting_data(data_dir: Path) -> None:
    folders = [BarFolder(data_dir / f"ohlcv_1h_binance_{kind}") for kind in ("spot", "perp")]
    coins = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
    history = load_history(folders, INTERVALS["1h"], coins)
    # A year for the slowest memory, then the five months after the fitting data.
    begin = int(np.searchsorted(history.bars.closes, parse_time("2024-03-01T00:00:00Z")))
    history = replace(history, bars=history.bars.rows(begin, None))
    bars = history.bars
    features = MarketState(bars.symbols, bars.interval).advance(bars)
    squares = [features.column(name) ** 2 for name in PRIOR_VOLATILITIES]
    mean_of_four = np.sqrt(sum(squares) / len(squares))
    span = (shipped_coefficients().end, int(bars.closes[-1]))
    for hours, gain in ((1, 0.8), (8, 0.85), (24, 0.9)):
        name = FORECAST_VOLATILITIES[FORECAST_HORIZONS.index(hours)]
        forecast = log_volatility_rmse(features.column(name), history, hours, *span)
        assert forecast < gain * log_volatility_rmse(mean_of_four, history, hours, *span)
