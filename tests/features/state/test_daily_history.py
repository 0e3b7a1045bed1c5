"""Daily closes from bars: what a day is, gaps, restarts, and that nothing looks ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketFeatures, MarketState
from features.state.point_in_time import advance_through
from features.state.snapshot import MarketSnapshot
from market.bars.daily_closes import MAX_DAYS, DailyCloses, empty_daily_closes
from market.bars.filtered_bars import Corrections
from market.bars.panel import CLOSE, BarPanel
from market.core.clock import DAY, INTERVALS
from market.core.errors import DataError
from market.simulator.simulated_market import simulate_bars

Floats = npt.NDArray[np.float64]
SameBits = Callable[[Floats, Floats], bool]

HOURLY = INTERVALS["1h"]


def panel(rows: int = 24 * 9 + 5, interval: str = "1h") -> BarPanel:
    """Three symbols; the second begins late, has a hole of an hour and one of two days."""
    made = simulate_bars(5, 12, 3, INTERVALS[interval]).rows(3, 3 + rows)
    values = made.values.copy()
    for gone in (slice(0, 31), slice(60, 61), slice(92, 145)):
        values[gone, 1] = np.nan
    return replace(made, values=values)


def whole(bars: BarPanel) -> MarketFeatures:
    return MarketState(bars.symbols, bars.interval).advance(bars)


def daily(features: MarketFeatures, row: int = -1) -> DailyCloses:
    found = features.daily_at(row)
    assert found is not None
    return found


def same_days(a: DailyCloses, b: DailyCloses, same_bits: SameBits) -> bool:
    return (
        (a.symbols, a.until) == (b.symbols, b.until)
        and same_bits(a.close, b.close)
        and same_bits(a.variance, b.variance)
    )


@pytest.mark.parametrize("interval", ["1h", "30m"])
def test_days_are_those_of_pandas(interval: str) -> None:
    bars = panel(interval=interval)
    found = daily(whole(bars))
    # A bar belongs to the day in which it closes; midnight ends the day before.
    day = pd.DatetimeIndex(pd.to_datetime(bars.closes - 1, utc=True)).floor("D")
    last = day[-1] if bars.closes[-1] % DAY == 0 else day[-1] - pd.Timedelta(days=1)
    for s in range(3):
        close = pd.Series(bars.values[:, s, CLOSE], index=day)
        known = close.dropna()
        returns = pd.Series(np.log(known), index=known.index).diff()
        # The hole of over a day forgets what was before it.
        places = np.flatnonzero(~np.isnan(close.to_numpy()))
        gaps = np.diff(places, prepend=places[0]) > 25 * bars.interval.per_hour
        returns = returns.mask(gaps)
        days = pd.date_range(day[0], last, freq="D")
        expected = known.groupby(level=0).last().reindex(days)
        squares = (returns**2).groupby(level=0).sum(min_count=1).reindex(days)
        np.testing.assert_array_equal(found.close[:, s], expected.to_numpy())
        np.testing.assert_allclose(found.variance[:, s], squares.to_numpy(), rtol=1e-12)
    assert found.until == (last + pd.Timedelta(days=1)).value


def test_a_day_without_bars_is_a_row_of_nan() -> None:
    found = daily(whole(panel()))
    assert np.isnan(found.close[:, 1]).any()
    assert not np.isnan(found.close[:, [0, 2]]).any()


@pytest.mark.parametrize("cut", [0, 1, 20, 21, 22, 100, 200])
def test_pieces_and_restarts_give_the_days_of_the_whole(
    cut: int, same_bits: SameBits, tmp_path: Path
) -> None:
    bars = panel()
    state = MarketState(bars.symbols, bars.interval)
    first = state.advance(bars.rows(0, cut))
    state.save(tmp_path / "state.npz")
    rest = MarketState.load(tmp_path / "state.npz").advance(bars.rows(cut, None))
    together = first.append(rest)
    for row in range(0, len(bars), 7):
        assert same_days(daily(together, row), daily(whole(bars), row), same_bits), row


@given(st.integers(1, 215))
@settings(max_examples=15, deadline=None)
def test_what_comes_later_changes_no_earlier_day(rows: int) -> None:
    bars = panel()
    early, late = whole(bars.rows(0, rows)), whole(bars)
    before, after = daily(early), daily(late, rows - 1)
    assert before.until == after.until
    np.testing.assert_array_equal(before.close, after.close)
    np.testing.assert_array_equal(before.variance, after.variance)
    assert not len(before) or before.until <= bars.closes[rows - 1]


def test_a_correction_after_midnight_counts_from_the_next_row(same_bits: SameBits) -> None:
    bars = panel()
    row = int(np.flatnonzero(bars.closes % DAY == 0)[4])
    corrected = bars.values[row].copy()
    corrected[0] *= [1.1, 1.1, 1.1, 1.1, 1.0]
    changes = Corrections(bars.opens[row : row + 1], corrected[None])
    state = MarketState(bars.symbols, bars.interval)
    found = advance_through(state, bars, changes)
    recomputed = whole(bars)
    assert same_days(daily(found, row), daily(recomputed, row), same_bits)
    later = daily(found, row + 1)
    assert later.until == bars.closes[row]
    assert later.close[-1, 0] == corrected[0, CLOSE]
    assert same_bits(later.close[:-1], daily(recomputed, row).close[:-1])
    assert state.daily.days.close[4, 0] == corrected[0, CLOSE]


def test_memory_is_of_ten_years() -> None:
    symbols = ("A",)
    days = np.arange(1.0, MAX_DAYS + 41.0)[:, None]
    long = DailyCloses(symbols, 30_000 * DAY, days, days)
    assert len(long.known_at(30_000 * DAY)) == MAX_DAYS
    assert long.known_at(29_990 * DAY + 5).close[[0, -1], 0].tolist() == [31.0, MAX_DAYS + 30.0]
    assert len(long.known_at(0)) == 0


def test_days_that_do_not_follow_are_refused() -> None:
    one = DailyCloses(("A",), 10 * DAY, np.ones((1, 1)), np.ones((1, 1)))
    far = DailyCloses(("A",), 12 * DAY, np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(DataError, match="days are missing between them"):
        one.followed_by(far)
    assert one.followed_by(empty_daily_closes(("A",))) is one
    with pytest.raises(DataError, match="00:00 UTC"):
        DailyCloses(("A",), 10 * DAY + 1, np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(DataError, match="has shape"):
        DailyCloses(("A",), 10 * DAY, np.ones((1, 2)), np.ones((1, 1)))


def test_content_survives_to_the_last_bit(same_bits: SameBits) -> None:
    found = daily(whole(panel()))
    assert same_days(DailyCloses.from_content(found.content()), found, same_bits)


def test_view_brings_the_days_and_a_snapshot_refuses_those_of_another_market() -> None:
    bars = panel()
    features = whole(bars)
    as_of = int(bars.closes[-1])
    quiet = np.zeros(3, dtype=np.bool_)
    snapshot = MarketSnapshot(as_of, HOURLY, features.at(-1, as_of), np.ones(3), quiet)
    assert snapshot.view().daily is snapshot.features.daily
    others = empty_daily_closes(("X",))
    with pytest.raises(DataError, match="do not fit the market"):
        snapshot.with_daily(others)


def test_a_state_of_an_earlier_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    bars = panel()
    state = MarketState(bars.symbols, bars.interval)
    state.advance(bars)
    path = tmp_path / "state.npz"
    state.save(path)
    with np.load(path) as content:
        kept = {name: content[name] for name in content.files if not name.startswith("daily")}
    np.savez(path, allow_pickle=False, **kept)
    with pytest.raises(DataError, match="run retrain"):
        MarketState.load(path)
