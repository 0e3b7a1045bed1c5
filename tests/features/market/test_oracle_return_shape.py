"""What returns look like beyond their variance, against DuckDB windows, pandas, arch and scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from arch.univariate import EWMAVariance, ZeroMean
from scipy import stats

from features.definition import MarketFeature
from features.registry import MARKET_FEATURES
from features.state.market_state import MarketFeatures
from market.bars.panel import CLOSE, BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Panels = Callable[[str], BarPanel]
MakePanel = Callable[..., BarPanel]
BySql = Callable[[BarPanel, str, dict[str, float]], Floats]
Frames = Callable[[BarPanel], list[pd.DataFrame]]

every_interval = pytest.mark.parametrize("interval", ["1h", "30m"])

EWMA = [f for f in MARKET_FEATURES if f.name.startswith("ewma_volatility")]


@every_interval
def test_downside_volatility(
    interval: str, holed_panel: Panels, advance: Advance, by_sql: BySql
) -> None:
    panel = holed_panel(interval)
    n = panel.interval.per_hour
    expected = by_sql(
        panel,
        f"CASE WHEN bars > {24 * n} THEN sqrt({n} * sum(CASE WHEN r < 0 THEN r * r ELSE 0 END) "
        f"OVER w / {24 * n}) END",
        {"hours": 24},
    )
    got = advance(panel).column("downside_volatility_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_semivariances_of_falls_and_rises_add_up_to_the_variance(
    gappy_panel: Panels, advance: Advance
) -> None:
    panel, mirror = gappy_panel("1h"), gappy_panel("1h")
    mirror.values[:, :, :4] = 1.0 / panel.values[:, :, [0, 2, 1, 3]]
    falls, rises = (advance(p).column("downside_volatility_24h") ** 2 for p in (panel, mirror))
    whole = advance(panel).column("realised_volatility_24h") ** 2
    np.testing.assert_allclose(falls + rises, whole, rtol=1e-10)


@every_interval
def test_jump_share(interval: str, holed_panel: Panels, advance: Advance, by_sql: BySql) -> None:
    # Barndorff-Nielsen and Shephard's 1 - BV/RV; both are means over the pairs of neighbouring
    # returns, so that a first return without a pair is in neither.
    panel = holed_panel(interval)
    panel.values[150:, 0] *= 1.2
    width = 24 * panel.interval.per_hour
    pairs = "CASE WHEN r1 IS NOT NULL THEN r * r END"
    expected = by_sql(
        panel,
        f"CASE WHEN bars > {width} AND 2 * count(r * r1) OVER w >= {width} THEN "
        f"greatest(0, 1 - pi() / 2 * avg(abs(r * r1)) OVER w / avg({pairs}) OVER w) END",
        {"hours": 24},
    )
    got = advance(panel).column("jump_share_24h")
    np.testing.assert_allclose(got[width:], expected[width:], rtol=1e-9, atol=1e-12)
    assert got[150 + width // 2, 0] > 0.5
    assert (got[width:] == 0.0).any()


def test_jump_share_finds_jumps_and_only_jumps(make_panel: MakePanel, advance: Advance) -> None:
    # A day of minutes has 1,440 returns, which is enough for the limit theory: a diffusion has
    # no jumps, and one return as large as the rest of the day together is half the variance.
    panel = make_panel(1_500, symbols=("A",), interval="1m")
    moves = np.random.default_rng(4).normal(0.0, 0.001, 1_500)
    smooth = moves.copy()
    moves[800] = 0.001 * np.sqrt(1_440.0)
    shares = []
    for returns in (smooth, moves):
        panel.values[:, 0, :4] = np.exp(np.cumsum(returns))[:, None]
        shares.append(advance(panel).column("jump_share_24h")[-1, 0])
    assert 0.0 <= shares[0] < 0.08
    assert shares[1] == pytest.approx(0.5, abs=0.06)


@every_interval
def test_volatility_of_volatility(
    interval: str, holed_panel: Panels, advance: Advance, frames: Frames
) -> None:
    panel = holed_panel(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("volatility_of_volatility_168h")
    for s, bars in enumerate(frames(panel)):
        squares = bars["r"].dropna() ** 2
        sigma = np.sqrt(squares.ewm(halflife=12 * n, min_periods=12 * n).mean())
        logs = np.log(sigma).reindex(bars.index)
        expected = logs.rolling(168 * n, min_periods=84 * n).std(ddof=0)
        expected = expected.where(expected.index >= 168 * n)
        np.testing.assert_allclose(got[168 * n :, s], expected[168 * n :], rtol=1e-8)


@every_interval
def test_drawdown(interval: str, holed_panel: Panels, advance: Advance, frames: Frames) -> None:
    panel = holed_panel(interval)
    width = 168 * panel.interval.per_hour
    got = advance(panel).column("drawdown_168h")
    for s, bars in enumerate(frames(panel)):
        close = bars["close"].ffill()
        expected = np.log((close.rolling(width).max() / close).to_numpy())
        np.testing.assert_allclose(got[:, s], expected, rtol=1e-10, atol=1e-14)


def test_drawdown_forgets_a_high_after_a_week(make_panel: MakePanel, advance: Advance) -> None:
    panel = make_panel(360, symbols=("A",))
    panel.values[:, 0, :4] = 100.0
    panel.values[180, 0, :4] = 125.0
    got = advance(panel).column("drawdown_168h")[:, 0]
    assert got[179] == got[180] == 0.0
    np.testing.assert_allclose(got[181 : 180 + 168], np.log(1.25), rtol=1e-14)
    assert (got[180 + 168 :] == 0.0).all()


@every_interval
def test_return_zscore(
    interval: str, holed_panel: Panels, advance: Advance, frames: Frames
) -> None:
    panel = holed_panel(interval)
    bars_of = 72 * panel.interval.per_hour
    panel.values[100 * panel.interval.per_hour, 0, CLOSE] *= 50.0
    got = advance(panel).column("return_zscore_72h")
    for s, bars in enumerate(frames(panel)):
        returns = bars["r"].dropna()
        sigma = np.sqrt((returns**2).ewm(halflife=bars_of).mean()).shift(1)
        score = (returns / sigma).clip(-100.0, 100.0)
        score = score.where(returns.expanding().count() >= bars_of)
        expected = score.reindex(bars.index).ffill()
        np.testing.assert_allclose(got[:, s], expected.to_numpy(), rtol=1e-10)
    assert np.nanmax(got) == 100.0


def test_return_zscore_is_the_standardised_residual_of_arch(
    make_panel: MakePanel, advance: Advance
) -> None:
    # arch starts its recursion from a backcast; after 30 half-lives nothing is left of it.
    panel = make_panel(2_400, symbols=("A",))
    returns = np.diff(np.log(panel.values[:, 0, CLOSE]))
    got = advance(panel).column("return_zscore_72h")[1:, 0]
    expected = _residuals(returns, 0.5 ** (1.0 / 72.0))
    np.testing.assert_allclose(got[-240:], expected[-240:], rtol=1e-8)
    assert stats.kstest(got[71:], "norm").pvalue > 0.01


def _residuals(returns: Floats, decay: float) -> Floats:
    model = ZeroMean(returns, rescale=False)
    model.volatility = EWMAVariance(decay)
    return np.asarray(model.fix([]).std_resid)


@pytest.mark.parametrize("feature", EWMA, ids=lambda feature: feature.name)
def test_ewma_volatility_is_the_riskmetrics_recursion_of_arch(
    feature: MarketFeature, make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(2_400, symbols=("A",))
    returns = np.diff(np.log(panel.values[:, 0, CLOSE]))
    model = ZeroMean(returns, rescale=False)
    model.volatility = EWMAVariance(0.5 ** (1.0 / feature.settings[0]))
    expected = np.asarray(model.fix([]).conditional_volatility)
    # arch gives what is expected of a bar, we what is known after it.
    got = advance(panel).column(feature.name)[1:, 0]
    np.testing.assert_allclose(got[-241:-1], expected[-240:], rtol=1e-8)
