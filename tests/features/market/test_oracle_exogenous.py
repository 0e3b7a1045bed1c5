"""Funding, basis, open interest and implied volatility against pandas, with its own holding.

`Series.ffill(limit=k - 1)` keeps a value for k bars, its own among them: a value known at one
close counts at all closes of the next k - 1 bars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from features.market.inputs import HOLD_HOURS
from features.registry import CORRELATION_HALF_LIFE_HOURS, MARKET_COLUMNS, REQUIRED_COLUMNS
from features.state.market_state import MarketFeatures, MarketState
from market.bars.panel import (
    BASIS,
    CURVATURE,
    FUNDING,
    IMPLIED_VOLATILITY,
    OPEN_INTEREST,
    SKEW,
    TERM_SLOPE,
    BarPanel,
)
from market.core.clock import INTERVALS

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Panels = Callable[[str], BarPanel]
MakePanel = Callable[..., BarPanel]
RowsOf = Callable[[BarPanel, int, int], BarPanel]
SameBits = Callable[[Floats, Floats], bool]
Frames = Callable[[BarPanel], list[pd.DataFrame]]

every_interval = pytest.mark.parametrize("interval", ["1h", "30m"])

OF_CONTEXT = [name for name in MARKET_COLUMNS if name not in REQUIRED_COLUMNS]
A, B, C = range(3)


@pytest.fixture
def patchy(holed_panel: Panels) -> Panels:
    """Every exogenous series with holes shorter and longer than it is in force.

    In C 14 hours of bars are missing of which the exogenous series are known; in B only funding and
    index are known for a while.
    """

    def make(interval: str) -> BarPanel:
        panel = holed_panel(interval)
        n = panel.interval.per_hour
        assert panel.exogenous is not None
        panel.exogenous[50 * n : 52 * n + 1, A, FUNDING] = np.nan
        panel.exogenous[100 * n : 161 * n, A, FUNDING] = np.nan
        panel.exogenous[60 * n : 75 * n, B, BASIS] = np.nan
        panel.exogenous[100 * n : 101 * n, C, BASIS] = np.nan
        panel.exogenous[105 * n : 150 * n, B, OPEN_INTEREST] = np.nan
        panel.exogenous[95 * n : 150 * n, C, OPEN_INTEREST] = np.nan
        panel.exogenous[80 * n : 90 * n, :, IMPLIED_VOLATILITY] = np.nan
        panel.exogenous[150 * n : 170 * n, A, IMPLIED_VOLATILITY] = np.nan
        panel.exogenous[120 * n : 160 * n, B, IMPLIED_VOLATILITY] = np.nan
        panel.exogenous[:, C, IMPLIED_VOLATILITY] = np.nan
        return panel

    return make


def _in_force(values: pd.Series, hours: int, per_hour: int) -> pd.Series:
    more = hours * per_hour - 1
    return values.ffill(limit=more) if more else values


def _mean(values: pd.Series, width: int) -> pd.Series:
    """Mean of the last `width` rows once so many have been seen and half of them are known."""
    return values.rolling(width, min_periods=width // 2).mean()[lambda x: x.index >= width - 1]


def _expected(mean: pd.Series, rows: int) -> Floats:
    return mean.reindex(range(rows)).to_numpy()


def test_hold_times_are_those_of_the_documentation() -> None:
    assert HOLD_HOURS == (24.0, 48.0, 25.0, 1.0, 25.0, 25.0, 25.0)


@every_interval
def test_funding_rate(interval: str, patchy: Panels, advance: Advance, frames: Frames) -> None:
    panel = patchy(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("funding_rate_24h")
    for s, bars in enumerate(frames(panel)):
        expected = _expected(_mean(_in_force(bars["funding"], 24, n), 24 * n), len(panel))
        np.testing.assert_allclose(got[:, s], expected, rtol=1e-9, atol=1e-16)
    # The last settlement before the hole is of hour 96: in force until 119, and the mean of a day
    # has lost over half of its hours from 132 on.
    hole = np.flatnonzero(np.isnan(got[30 * n :, A])) + 30 * n
    assert hole[0] == 132 * n
    assert hole[-1] < (168 + 12) * n


@every_interval
def test_basis(interval: str, patchy: Panels, advance: Advance, frames: Frames) -> None:
    panel = patchy(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("basis_24h")
    for s, bars in enumerate(frames(panel)):
        # Held for an hour: not at all by hourly bars, for one more bar by those of half an hour.
        expected = _expected(_mean(_in_force(bars["basis"], 1, n), 24 * n), len(panel))
        np.testing.assert_allclose(got[:, s], expected, rtol=1e-9, atol=1e-16)
    assert np.isnan(got[74 * n, B])


@every_interval
def test_open_interest_change(
    interval: str, patchy: Panels, advance: Advance, frames: Frames
) -> None:
    panel = patchy(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("open_interest_change_24h")
    for s, bars in enumerate(frames(panel)):
        expected = np.log(_in_force(bars["open_interest"], 48, n)).diff(24 * n)
        np.testing.assert_allclose(got[:, s], expected.to_numpy(), rtol=1e-10, atol=1e-13)
    assert np.isfinite(got[24 * n :, B]).all()
    assert (got[129 * n : 142 * n, C] == 0.0).all()
    assert np.isnan(got[143 * n : 150 * n, C]).all()


@every_interval
def test_open_interest_days(
    interval: str, patchy: Panels, advance: Advance, frames: Frames
) -> None:
    panel = patchy(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("open_interest_days_168h")
    for s, bars in enumerate(frames(panel)):
        value = _in_force(bars["open_interest"], 48, n) * bars["close"].ffill()
        days = pd.Series(np.log(value / (24.0 * n * _mean(bars["turnover"], 168 * n))))
        np.testing.assert_allclose(got[:, s], _expected(days, len(panel)), rtol=1e-9)


def _indices(panel: BarPanel, bars: list[pd.DataFrame]) -> pd.DataFrame:
    n = panel.interval.per_hour
    return pd.concat(
        [_in_force(x["implied_volatility"], 25, n) for x in bars], axis=1, keys=[A, B, C]
    )


@every_interval
def test_implied_volatility_is_the_mean_of_those_in_force(
    interval: str, patchy: Panels, advance: Advance, frames: Frames
) -> None:
    panel = patchy(interval)
    n = panel.interval.per_hour
    expected = _indices(panel, frames(panel)).mean(axis=1).to_numpy()
    got = advance(panel).column("implied_volatility")
    for s in (A, B, C):  # C has no index of its own
        np.testing.assert_allclose(got[72 * n + 1 :, s], expected[72 * n + 1 :], rtol=1e-12)
        assert np.isnan(got[: 72 * n, s]).all()


@every_interval
def test_variance_risk_premium(
    interval: str, patchy: Panels, advance: Advance, frames: Frames
) -> None:
    panel = patchy(interval)
    n = panel.interval.per_hour
    bars = frames(panel)
    half_life = CORRELATION_HALF_LIFE_HOURS * n
    realised = pd.concat(
        [
            (x["r"].dropna() ** 2).ewm(halflife=half_life).mean().reindex(x.index).ffill()
            for x in bars
        ],
        axis=1,
        keys=[A, B, C],
    )
    # Variances a year: 365 days of 24 hours.
    expected = (_indices(panel, bars) ** 2 - 365 * 24 * n * realised).mean(axis=1).to_numpy()
    got = advance(panel).column("variance_risk_premium")
    for s in (A, B, C):
        np.testing.assert_allclose(got[72 * n + 1 :, s], expected[72 * n + 1 :], rtol=1e-9)


def test_index_is_held_for_a_day_and_an_hour(make_panel: MakePanel, advance: Advance) -> None:
    panel = make_panel(300, symbols=("A", "B"))
    assert panel.exogenous is not None
    panel.exogenous[201:, :, IMPLIED_VOLATILITY] = np.nan
    features = advance(panel)
    for name in ("implied_volatility", "variance_risk_premium"):
        column = features.column(name)
        assert np.isfinite(column[73:225]).all()
        assert np.isnan(column[225:]).all()


def test_implied_volatility_counts_an_index_of_a_market_without_bars(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(200, symbols=("A", "B"))
    assert panel.exogenous is not None
    panel.values[:, B] = np.nan
    panel.exogenous[:, :, IMPLIED_VOLATILITY] = [0.4, 0.8]
    features = advance(panel)
    np.testing.assert_allclose(features.column("implied_volatility")[80:, A], 0.6, rtol=1e-14)
    assert np.isnan(features.column("implied_volatility")[:, B]).all()
    # A premium needs the realised side too: that of A alone.
    v = features.column("ewma_volatility_72h")[80:, A]
    expected = 0.16 - 8760.0 * v * v
    np.testing.assert_allclose(features.column("variance_risk_premium")[80:, A], expected)


@every_interval
@pytest.mark.parametrize(
    ("name", "column"),
    [("skew_25d", SKEW), ("atm_term_slope", TERM_SLOPE), ("smile_curvature", CURVATURE)],
)
def test_surface_of_a_symbol_is_its_own_and_of_the_others_the_mean(
    name: str, column: int, interval: str, make_panel: MakePanel, advance: Advance
) -> None:
    n = INTERVALS[interval].per_hour
    panel = make_panel(200 * n, symbols=("A", "B", "C"), interval=interval)
    assert panel.exogenous is not None
    index = panel.exogenous[:, :, column]
    index[:, C] = np.nan
    index[100 * n : 110 * n, A] = np.nan  # held
    index[150 * n : 190 * n, A] = np.nan  # forgotten after 25 hours
    index[160 * n :, B] = np.nan
    got = advance(panel).column(name)
    in_force = pd.DataFrame(index[:, :2]).ffill(limit=25 * n - 1)
    assert np.isnan(in_force.to_numpy()[180 * n, A])
    mean = in_force.mean(axis=1)
    warm = slice(80 * n, None)
    for s in (A, B):
        np.testing.assert_allclose(got[warm, s], in_force[s].fillna(mean)[warm], rtol=1e-14)
    np.testing.assert_allclose(got[warm, C], mean[warm], rtol=1e-12)
    assert np.isnan(got[186 * n : 190 * n]).all()


def test_constant_context_by_hand(make_panel: MakePanel, advance: Advance) -> None:
    panel = make_panel(200, symbols=("A",))
    assert panel.exogenous is not None
    panel.values[:, 0] = [2.0, 2.0, 2.0, 2.0, 50.0]  # 100 an hour: 2,400 a day
    panel.exogenous[:, 0, FUNDING] = 1.25e-5
    panel.exogenous[:, 0, BASIS] = -2e-4
    panel.exogenous[:, 0, OPEN_INTEREST] = 3_600.0  # worth 7,200: three days of trading
    panel.exogenous[:, 0, IMPLIED_VOLATILITY] = 0.5
    panel.exogenous[:, 0, SKEW] = 0.07
    panel.exogenous[:, 0, TERM_SLOPE] = -0.03
    panel.exogenous[:, 0, CURVATURE] = 0.01
    features = advance(panel)
    expected = {
        "funding_rate_24h": 1.25e-5,
        "basis_24h": -2e-4,
        "open_interest_change_24h": 0.0,
        "open_interest_days_168h": np.log(3.0),
        "implied_volatility": 0.5,
        "variance_risk_premium": 0.25,
        "skew_25d": 0.07,
        "atm_term_slope": -0.03,
        "smile_curvature": 0.01,
    }
    assert sorted(expected) == sorted(OF_CONTEXT)
    for name, value in expected.items():
        assert features.column(name)[-1, 0] == pytest.approx(value, rel=1e-12), name


def test_market_without_context_has_nan_there_and_the_same_everywhere_else(
    patchy: Panels, advance: Advance, same_bits: SameBits
) -> None:
    panel = patchy("1h")
    full, bare = advance(panel), advance(replace(panel, exogenous=None))
    for name in MARKET_COLUMNS:
        if name in OF_CONTEXT:
            assert np.isnan(bare.column(name)).all(), name
        else:
            assert same_bits(bare.column(name), full.column(name)), name


@pytest.mark.parametrize("interval", ["1h", "30m"])
def test_holes_of_the_context_live_equal_batch(
    interval: str, patchy: Panels, advance: Advance, rows_of: RowsOf, same_bits: SameBits
) -> None:
    panel = patchy(interval)
    batch = advance(panel)
    state = MarketState(panel.symbols, panel.interval)
    live = [state.advance(rows_of(panel, t, t + 1)) for t in range(len(panel))]
    for name in OF_CONTEXT:
        column = np.concatenate([one.column(name) for one in live])
        assert same_bits(column, batch.column(name)), name


def test_gap_of_over_a_day_forgets_the_context_of_before(
    make_panel: MakePanel, advance: Advance
) -> None:
    # Open interest of before the gap would be 31 hours old, which is within its 48.
    panel = make_panel(300, symbols=("A",))
    assert panel.exogenous is not None
    panel.values[200:230] = np.nan
    panel.exogenous[200:260, 0, OPEN_INTEREST] = np.nan
    panel.exogenous[40:80, 0, OPEN_INTEREST] = np.nan
    change = advance(panel).column("open_interest_change_24h")[:, 0]
    assert np.isfinite(change[24:200]).all()
    assert np.isnan(change[230 : 260 + 24]).all()
    assert np.isfinite(change[260 + 24 :]).all()


def test_interval_of_the_bars_does_not_change_how_long_a_rate_is_in_force(
    make_panel: MakePanel, advance: Advance
) -> None:
    last = []
    for interval in ("1h", "30m", "5m"):
        n = INTERVALS[interval].per_hour
        panel = make_panel(60 * n, symbols=("A",), interval=interval)
        assert panel.exogenous is not None
        panel.exogenous[:, 0, FUNDING] = np.nan
        panel.exogenous[n - 1, 0, FUNDING] = 1e-4  # known at the close of the first hour
        column = advance(panel).column("funding_rate_24h")[:, 0]
        last.append(np.flatnonzero(np.isfinite(column))[-1] / n + 2.0 / n)
    # In force from 1 h to before 25 h, so under half of the day before 37 h: the first close of
    # which nothing is said.
    assert last == [37.0, 37.0, 37.0]
