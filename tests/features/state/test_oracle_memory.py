"""Long memories - hour of the week, ten years, wildest week - against pandas and DuckDB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest

from features.registry import MARKET_FEATURES
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel
from market.core.clock import INTERVALS, parse_time

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Panels = Callable[[str], BarPanel]
MakePanel = Callable[..., BarPanel]
Frames = Callable[[BarPanel], list[pd.DataFrame]]

every_interval = pytest.mark.parametrize("interval", ["1h", "30m"])

WEEK = 168
LONG_GAP_ROWS = range(300, 330)
SURVIVORS = [f.name for f in MARKET_FEATURES if f.survives_gaps]


def _walk(rows: int, scale: Floats, start: str, interval: str = "1h") -> BarPanel:
    """One symbol whose bars have no range, with returns of the given standard deviations."""
    returns = np.random.default_rng(17).standard_normal(rows) * scale
    values = np.empty((rows, 1, 5))
    values[:, 0, :4] = np.exp(np.cumsum(returns))[:, None]
    values[:, 0, 4] = 1.0
    step = INTERVALS[interval]
    opens = parse_time(start) + np.arange(rows, dtype=np.int64) * step.nanoseconds
    return BarPanel(step, ("A",), opens, values)


@pytest.fixture
def broken(make_panel: MakePanel) -> Callable[[str], BarPanel]:
    """Three weeks and a half with a gap of 30 hours, over which other features start anew."""

    def make(interval: str) -> BarPanel:
        n = INTERVALS[interval].per_hour
        panel = make_panel(590 * n, symbols=("A", "B"), seed=23, interval=interval)
        # By half-hours the gap begins and ends within an hour of the week.
        panel.values[LONG_GAP_ROWS.start * n + 1 : LONG_GAP_ROWS.stop * n + 1, 1] = np.nan
        panel.values[350 * n : 353 * n, 0] = np.nan
        # Wild at first and calm later, so that a maximum that was forgotten would show.
        panel.values[: 200 * n, :, :4] **= 3.0
        return panel

    return make


def _restarted(bars: pd.DataFrame, row: int) -> pd.Series:
    """Squared returns, without the one over the long gap that ends at a row."""
    squares = bars["r"] ** 2
    squares[row] = np.nan
    return squares


@every_interval
def test_hour_of_week_seasonality(
    interval: str, broken: Panels, advance: Advance, frames: Frames
) -> None:
    panel = broken(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("hour_of_week_seasonality")
    for s, bars in enumerate(frames(panel)):
        if s == 1:
            bars.loc[LONG_GAP_ROWS.stop * n + 1, "r"] = np.nan
        # The calendar of pandas: a bar belongs to the hour it opens in, the factor to the next.
        of_bar = bars["opened"].dt.day_of_week * 24 + bars["opened"].dt.hour
        next_hour = bars["closed"].dt.day_of_week * 24 + bars["closed"].dt.hour
        size = bars["r"].abs()
        belongs = pd.get_dummies(of_bar, dtype=float)  # a column for each of 168 hours
        sums = belongs.mul(size.fillna(0.0), axis=0).cumsum()
        counts = belongs.mul(size.notna(), axis=0).cumsum()
        mean = size.expanding().mean()
        own = np.arange(len(bars)), next_hour.to_numpy()
        a, k = sums.to_numpy()[own], counts.to_numpy()[own]
        expected = (a + 8.0 * n * mean) / (k + 8.0 * n) / mean
        np.testing.assert_allclose(got[WEEK * n :, s], expected[WEEK * n :], rtol=1e-10)


def test_planted_weekly_pattern_is_found_in_the_hour_before_it_comes(advance: Advance) -> None:
    # Each Friday from 20:00 to 21:00 UTC is five times as wild. After 60 weeks the eight average
    # weeks of the prior still pull a little: (60 x 5 + 8) / 68 = 4.53 of the average's 1.02.
    rows = 61 * WEEK
    opened = pd.date_range("2024-01-01", periods=rows, freq="h")
    wild = np.asarray((opened.day_of_week == 4) & (opened.hour == 20))
    panel = _walk(rows, np.where(wild, 0.05, 0.01), "2024-01-01T00:00:00Z")
    last = advance(panel).column("hour_of_week_seasonality")[-WEEK:, 0]
    next_is_wild = np.roll(wild, -1)[-WEEK:]
    assert np.flatnonzero(last == last.max()).tolist() == np.flatnonzero(next_is_wild).tolist()
    assert last[next_is_wild][0] == pytest.approx((60.0 * 5.0 + 8.0) / 68.0 / 1.024, rel=0.15)
    assert last[~next_is_wild].mean() == pytest.approx(1.0 / 1.024, rel=0.02)


def test_seasonality_is_learned_from_the_past_only(broken: Panels, advance: Advance) -> None:
    panel = broken("1h")
    wild = panel.values.copy()
    wild[400:, :, :4] *= np.exp(np.random.default_rng(1).normal(0.0, 0.5, (190, 2, 1)))
    before = advance(panel).column("hour_of_week_seasonality")
    after = advance(replace(panel, values=wild)).column("hour_of_week_seasonality")
    assert np.array_equal(after[:400], before[:400], equal_nan=True)
    assert not np.isclose(after[400:], before[400:]).all(axis=0).any()


@every_interval
def test_long_volatility_of_a_short_history_is_the_mean_of_all_of_it(
    interval: str, broken: Panels, advance: Advance, frames: Frames
) -> None:
    panel = broken(interval)
    n = panel.interval.per_hour
    got = advance(panel).column("long_volatility")
    for s, bars in enumerate(frames(panel)):
        squares = bars["r"] ** 2
        if s == 1:
            squares = _restarted(bars, LONG_GAP_ROWS.stop * n + 1)
        expected = np.sqrt(n * squares.expanding().mean())
        np.testing.assert_allclose(got[WEEK * n :, s], expected[WEEK * n :], rtol=1e-10)


def test_long_volatility_drops_what_is_older_than_522_weeks(
    advance: Advance, frames: Frames
) -> None:
    # 530 weeks of hours: 40 wild weeks in front, and 5 weeks in the middle without a bar. Weeks
    # turn on Thursdays, as those of the epoch.
    rows = 530 * WEEK + 50
    scale = np.where(np.arange(rows) < 40 * WEEK, 0.05, 0.005)
    panel = _walk(rows, scale, "2015-01-05T07:00:00Z")
    panel.values[200 * WEEK + 20 : 205 * WEEK + 20] = np.nan
    (bars,) = frames(panel)
    squares = _restarted(bars, 205 * WEEK + 20)
    week = (bars["opened"] - pd.Timestamp("1970-01-01")) // pd.Timedelta(weeks=1)
    with duckdb.connect() as connection:
        table = pa.table({"week": week, "x": pa.array(squares, from_pandas=True)})
        connection.register("bars", table)
        found = connection.execute(
            "SELECT week, sqrt(avg(x) OVER (ORDER BY week RANGE BETWEEN 521 PRECEDING AND CURRENT "
            "ROW)) AS value FROM bars QUALIFY row_number() OVER (PARTITION BY week) = 1 "
            "ORDER BY week"
        ).df()
    # A window by weeks is whole at each week's last bar.
    last = np.flatnonzero(week.diff(-1) != 0)
    got = advance(panel).column("long_volatility")[:, 0]
    assert found["week"].tolist() == week.iloc[last].tolist()
    expected = found["value"].to_numpy()
    np.testing.assert_allclose(got[last][2:], expected[2:], rtol=1e-9)
    # Within the week, the week that leaves is gone from the first bar on.
    first = last[-2] + 1
    inside = (week > week.iloc[first] - 522) & (bars.index <= first)
    assert got[first] == pytest.approx(float(np.sqrt(squares[inside].mean())), rel=1e-9)
    assert got[first] < got[first - 1]


@every_interval
def test_stressed_volatility(
    interval: str, broken: Panels, advance: Advance, frames: Frames
) -> None:
    panel = broken(interval)
    n = panel.interval.per_hour
    width = WEEK * n
    got = advance(panel).column("stressed_volatility_168h")
    for s, bars in enumerate(frames(panel)):
        squares = bars["r"].fillna(0.0) ** 2
        parts = [squares.iloc[1:]]
        if s == 1:
            again = LONG_GAP_ROWS.stop * n + 1
            # The window starts anew after the gap; the maximum is that of both parts.
            parts = [squares.iloc[1 : LONG_GAP_ROWS.start * n + 1], squares.iloc[again + 1 :]]
        means = pd.concat([part.rolling(width).sum() / width for part in parts])
        highest = np.sqrt(n * means.reindex(bars.index).cummax().ffill())
        np.testing.assert_allclose(got[:, s], highest.to_numpy(), rtol=1e-9)


@pytest.fixture(scope="module")
def survivors_and_fresh_market(
    advance: Advance, make_panel: MakePanel
) -> tuple[MarketFeatures, MarketFeatures]:
    """A symbol with a wild week before its gap of 30 hours, and one listed after that gap."""
    panel = make_panel(590, symbols=("A", "B"), seed=29)
    panel.values[:200, :, :4] **= 3.0
    panel.values[LONG_GAP_ROWS.start : LONG_GAP_ROWS.stop, 1] = np.nan
    late = panel.values.copy()
    late[: LONG_GAP_ROWS.stop, 1] = np.nan
    return advance(panel), advance(replace(panel, values=late))


@pytest.mark.parametrize("name", SURVIVORS)
def test_memory_survives_a_gap_of_over_a_day(
    name: str, survivors_and_fresh_market: tuple[MarketFeatures, MarketFeatures]
) -> None:
    kept, anew = (f.column(name)[LONG_GAP_ROWS.stop :, 1] for f in survivors_and_fresh_market)
    assert np.isfinite(kept).all()
    assert not np.isclose(kept[WEEK:], anew[WEEK:], rtol=1e-4).any()


@pytest.mark.parametrize("name", SURVIVORS)
def test_memory_of_a_symbol_listed_late_waits_for_its_own_first_week(
    name: str, survivors_and_fresh_market: tuple[MarketFeatures, MarketFeatures]
) -> None:
    anew = survivors_and_fresh_market[1].column(name)[LONG_GAP_ROWS.stop :, 1]
    assert np.isnan(anew[: WEEK - 1]).all()
    assert np.isfinite(anew[WEEK:]).all()
