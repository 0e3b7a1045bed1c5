"""Range volatilities against the formulas of R's TTR, written for DuckDB windows and pandas.

TTR::volatility scales by the square root of N periods a year; N is the number of bars an hour
here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from features.state.market_state import MarketFeatures
from market.bars.panel import CLOSE, HIGH, LOW, OPEN, BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Panels = Callable[[str], BarPanel]
MakePanel = Callable[..., BarPanel]
BySql = Callable[[BarPanel, str, dict[str, float]], Floats]
Frames = Callable[[BarPanel], list[pd.DataFrame]]

every_interval = pytest.mark.parametrize("interval", ["1h", "30m"])


@every_interval
def test_rogers_satchell_volatility(
    interval: str, holed_panel: Panels, advance: Advance, by_sql: BySql
) -> None:
    # calc="rogers.satchell": sqrt(N/n * runSum(log(H/C) log(H/O) + log(L/C) log(L/O), n)), where
    # n is the number of bars that are there, as TTR knows no missing ones.
    panel = holed_panel(interval)
    n = panel.interval.per_hour
    width = 24 * n
    expected = by_sql(
        panel,
        f"CASE WHEN bars >= {width} AND 2 * count(close) OVER w >= {width} THEN sqrt({n} * avg("
        "ln(high / close) * ln(high / open) + ln(low / close) * ln(low / open)) OVER w) END",
        {"hours": 24},
    )
    assert np.isnan(expected[-60 * n :]).any()
    got = advance(panel).column("rogers_satchell_volatility_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@every_interval
def test_yang_zhang_volatility(
    interval: str, holed_panel: Panels, advance: Advance, frames: Frames
) -> None:
    panel = _with_gaps_between_bars(holed_panel(interval))
    width = 24 * panel.interval.per_hour
    got = advance(panel).column("yang_zhang_volatility_24h")
    for s, bars in enumerate(frames(panel)):
        there = bars["close"].rolling(width, min_periods=1).count()
        expected = _yang_zhang(bars, width, there, panel.interval.per_hour)
        expected = expected.where((expected.index >= width - 1) & (2 * there >= width))
        np.testing.assert_allclose(got[:, s], expected.to_numpy(), rtol=1e-9)


def _with_gaps_between_bars(panel: BarPanel) -> BarPanel:
    # Bars of a walk open where the last one closed; the estimator is made for those that do not.
    jumps = np.random.default_rng(3).normal(0.0, 0.004, (len(panel), len(panel.symbols)))
    panel.values[:, :, :4] *= np.exp(np.cumsum(jumps, axis=0))[:, :, None]
    return panel


def _yang_zhang(bars: pd.DataFrame, width: int, there: pd.Series, periods: int) -> pd.Series:
    """calc="yang.zhang" with its default alpha = 1.34; n is the number of bars that are there."""
    alpha = 1.34
    k = (alpha - 1.0) / (alpha + (there + 1.0) / (there - 1.0))
    gap = pd.Series(np.log(bars["open"] / bars["close"].ffill().shift(1)))
    gap = gap.where(bars["open"].notna())
    gap.iloc[0] = 0.0  # TTR waits one bar longer instead
    body = pd.Series(np.log(bars["close"] / bars["open"]))
    one_bar = np.log(bars["high"] / bars["close"]) * np.log(bars["high"] / bars["open"]) + np.log(
        bars["low"] / bars["close"]
    ) * np.log(bars["low"] / bars["open"])
    variance = (
        gap.rolling(width, min_periods=2).var(ddof=1)
        + k * body.rolling(width, min_periods=2).var(ddof=1)
        + (1.0 - k) * pd.Series(one_bar).rolling(width, min_periods=2).mean()
    )
    return pd.Series(np.sqrt(periods * variance))


def test_trend_within_bars_is_no_rogers_satchell_volatility(
    make_panel: MakePanel, advance: Advance
) -> None:
    # Every bar climbs from its low to its high: a drift and nothing else. Parkinson sees 1 %.
    panel = make_panel(60, symbols=("A",))
    steps = np.exp(0.01 * np.arange(61))[:, None]
    panel.values[:, :, OPEN] = panel.values[:, :, LOW] = steps[:-1]
    panel.values[:, :, CLOSE] = panel.values[:, :, HIGH] = steps[1:]
    features = advance(panel)
    assert features.column("rogers_satchell_volatility_24h")[-1, 0] == pytest.approx(0.0, abs=1e-9)
    assert features.column("yang_zhang_volatility_24h")[-1, 0] == pytest.approx(0.0, abs=1e-9)
    assert features.column("parkinson_volatility_24h")[-1, 0] > 0.005


def test_yang_zhang_is_all_gap_where_bars_stand_still(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(80, symbols=("A",))
    gaps = np.random.default_rng(8).normal(0.0, 0.02, 80)
    panel.values[:, 0, :4] = np.exp(np.cumsum(gaps))[:, None]
    features = advance(panel)
    got = features.column("yang_zhang_volatility_24h")[-1, 0]
    assert got == pytest.approx(np.std(gaps[-24:], ddof=1), rel=1e-9)
    assert features.column("rogers_satchell_volatility_24h")[-1, 0] == 0.0


@every_interval
def test_range_estimators_find_the_volatility_of_a_finely_walked_price(
    interval: str, make_panel: MakePanel, advance: Advance
) -> None:
    # 400 steps a bar, 2 % an hour. A maximum over steps misses some of the range, so each
    # estimate is 4 to 6 % low; the mean over windows takes out the noise.
    panel = make_panel(1_500, symbols=("A",), interval=interval)
    rng = np.random.default_rng(21)
    step = 0.02 / np.sqrt(400 * panel.interval.per_hour)
    path = np.cumsum(rng.normal(0.0, step, (1_500, 400)).reshape(-1)).reshape(1_500, 400)
    opens = np.concatenate([[0.0], path[:-1, -1]])
    panel.values[:, 0, OPEN] = np.exp(opens)
    panel.values[:, 0, CLOSE] = np.exp(path[:, -1])
    panel.values[:, 0, HIGH] = np.exp(np.maximum(path.max(axis=1), opens))
    panel.values[:, 0, LOW] = np.exp(np.minimum(path.min(axis=1), opens))
    features = advance(panel)
    for kind in ("parkinson", "garman_klass", "rogers_satchell", "yang_zhang"):
        estimates = features.column(f"{kind}_volatility_24h")[:, 0]
        mean = float(np.sqrt(np.nanmean(estimates**2)))
        assert 0.0185 < mean < 0.0195, kind
