"""Volatilities and returns against DuckDB windows and the weighted means of pandas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from features.definition import MarketFeature
from features.registry import MARKET_FEATURES
from features.state.market_state import MarketFeatures
from market.bars.panel import CLOSE, BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Gappy = Callable[[str], BarPanel]
BySql = Callable[[BarPanel, str, dict[str, float]], Floats]

every_interval = pytest.mark.parametrize("interval", ["1h", "30m"])

REALISED = [f for f in MARKET_FEATURES if f.name.startswith("realised_volatility")]
EWMA = [f for f in MARKET_FEATURES if f.name.startswith("ewma_volatility")]


@every_interval
@pytest.mark.parametrize("feature", REALISED, ids=lambda feature: feature.name)
def test_realised_volatility(
    feature: MarketFeature, interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = gappy_panel(interval)
    n, hours = panel.interval.per_hour, feature.settings[0]
    width = int(hours * n)
    # The first bar has no return, so a window of returns is full one bar later.
    expected = by_sql(
        panel,
        f"CASE WHEN bars > {width} THEN sqrt({n} * sum(coalesce(r * r, 0)) OVER w / {width}) END",
        {"hours": hours},
    )
    got = advance(panel).column(feature.name)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@every_interval
def test_parkinson_volatility(
    interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = gappy_panel(interval)
    n = panel.interval.per_hour
    expected = by_sql(
        panel,
        f"CASE WHEN bars >= {24 * n} "
        f"THEN sqrt({n} * avg(ln(high / low) ** 2) OVER w / (4 * ln(2))) END",
        {"hours": 24},
    )
    got = advance(panel).column("parkinson_volatility_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@every_interval
def test_garman_klass_volatility(
    interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = gappy_panel(interval)
    n = panel.interval.per_hour
    expected = by_sql(
        panel,
        f"CASE WHEN bars >= {24 * n} THEN sqrt({n} * avg("
        "ln(high / low) ** 2 / 2 - (2 * ln(2) - 1) * ln(close / open) ** 2) OVER w) END",
        {"hours": 24},
    )
    got = advance(panel).column("garman_klass_volatility_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@every_interval
def test_trailing_return(
    interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = gappy_panel(interval)
    width = 24 * panel.interval.per_hour
    expected = by_sql(
        panel,
        f"CASE WHEN bars > {width} THEN sum(coalesce(r, 0)) OVER w END",
        {"hours": 24},
    )
    got = advance(panel).column("trailing_return_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)


def test_trailing_return_is_the_log_ratio_of_closes(gappy_panel: Gappy, advance: Advance) -> None:
    panel = gappy_panel("1h")
    close = panel.values[:, 0, CLOSE]
    got = advance(panel).column("trailing_return_24h")[24:, 0]
    np.testing.assert_allclose(got, np.log(close[24:] / close[:-24]), rtol=1e-9, atol=1e-13)


@every_interval
@pytest.mark.parametrize("feature", EWMA, ids=lambda feature: feature.name)
def test_ewma_volatility(
    feature: MarketFeature, interval: str, gappy_panel: Gappy, advance: Advance
) -> None:
    panel = gappy_panel(interval)
    n = panel.interval.per_hour
    bars = feature.settings[0] * n
    got = advance(panel).column(feature.name)
    for s in range(len(panel.symbols)):
        close = pd.Series(panel.values[:, s, CLOSE]).dropna()
        squares = (pd.Series(np.log(close)).diff() ** 2).dropna()
        mean = squares.ewm(halflife=bars, adjust=True, min_periods=int(bars)).mean()
        # A missing bar changes nothing: the last value stands.
        expected = np.sqrt(n * mean).reindex(range(len(panel))).ffill()
        np.testing.assert_allclose(got[:, s], expected.to_numpy(), rtol=1e-10)


def test_worked_numbers_of_constant_bars(advance: Advance, gappy_panel: Gappy) -> None:
    # Every bar rises by a factor e^0.01 from open to close, with no wick: r = ln(H/L) = 0.01.
    panel = gappy_panel("1h")
    steps = np.exp(0.01 * np.arange(len(panel) + 1))[:, None]
    values = panel.values
    values[:, :, 0] = values[:, :, 2] = steps[:-1]
    values[:, :, 1] = values[:, :, 3] = steps[1:]
    last = advance(panel)
    expected = {
        "ewma_volatility_3h": 0.01,
        "ewma_volatility_12h": 0.01,
        "ewma_volatility_72h": 0.01,
        "realised_volatility_1h": 0.01,
        "realised_volatility_24h": 0.01,
        "long_volatility": 0.01,
        "stressed_volatility_168h": 0.01,
        "parkinson_volatility_24h": 0.01 / np.sqrt(4.0 * np.log(2.0)),
        "garman_klass_volatility_24h": 0.01 * np.sqrt(1.5 - 2.0 * np.log(2.0)),
        "rogers_satchell_volatility_24h": 0.0,
        "yang_zhang_volatility_24h": 0.0,
        "downside_volatility_24h": 0.0,
        "jump_share_24h": 0.0,
        "volatility_of_volatility_168h": 0.0,
        "drawdown_168h": 0.0,
        "return_zscore_72h": 1.0,
        "hour_of_week_seasonality": 1.0,
        "trailing_return_24h": 0.24,
        "roll_spread_24h": 0.0,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(last.column(name)[-1], value, 1e-9, 1e-6, err_msg=name)
