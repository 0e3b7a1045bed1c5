"""Account-hours of whole accounts, and the falls of headroom that follow them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from market.core.clock import HOUR
from tests.training.backtest.conftest import LEAST_HOURS, World
from training.backtest.account_hours import FOLLOW_HOURS


def test_sample_is_of_whole_accounts_and_large_enough(world: World) -> None:
    small, large = world.hours(least_hours=400), world.hours()
    assert 400 <= small.counted.sum() <= len(small)
    assert large.counted.sum() >= LEAST_HOURS
    assert len(small) < len(large)
    rows = world.hours(least_hours=10**9).times.rows.row
    assert len(rows) > len(large)
    other = world.hours(seed=2)
    assert not np.array_equal(other.fall, large.fall)


def test_hours_and_the_day_after_them_lie_within_the_span(world: World) -> None:
    closes = world.history.bars.closes[world.hours().times.rows.row]
    assert closes.min() > world.test[0]
    assert closes.max() + FOLLOW_HOURS * HOUR <= world.test[1]


def test_fall_is_the_worst_of_the_next_day_by_hand(world: World) -> None:
    hours = world.hours()
    rows = hours.times.rows
    for n in np.flatnonzero(hours.counted)[::173].tolist():
        legs = slice(rows.leg_start[n], rows.leg_start[n + 1])
        symbol, notional, t = rows.leg_symbol[legs], rows.leg_notional[legs], rows.row[n]
        quantity = notional / world.history.mark[t, symbol]
        marks = world.history.mark[t : t + FOLLOW_HOURS + 1, symbol]
        margin = 0.02 * np.abs(quantity * marks).sum(axis=1)
        headroom = (quantity * marks).sum(axis=1) - margin
        assert hours.fall[n] == headroom[0] - headroom.min() or np.isclose(
            hours.fall[n], headroom[0] - headroom.min(), rtol=1e-9, atol=1e-12
        )
        assert hours.gross[n] == np.abs(notional).sum()


def test_hours_count_while_there_is_headroom_after_a_breach_too(world: World) -> None:
    hours = world.hours(least_hours=10**9)
    headroom = hours.times.rows.headroom
    assert not hours.counted[headroom <= 0.0].any()
    start = hours.times.start
    recovered = False
    for begin, end in pairwise(start):
        breached = np.flatnonzero(headroom[begin:end] < 0.0)
        recovered |= bool(len(breached) and hours.counted[begin + breached[0] : end].any())
    assert recovered


def test_hours_before_a_missing_mark_do_not_count(world: World) -> None:
    row = int(np.searchsorted(world.history.bars.closes, world.test[0])) + 150
    mark = world.history.mark.copy()
    mark[row] = np.nan
    gappy = replace(world, history=replace(world.history, mark=mark))
    hours = gappy.hours(least_hours=10**9)
    rows = hours.times.rows.row
    near = (rows > row - FOLLOW_HOURS - 1) & (rows <= row)
    assert near.any()
    assert not hours.counted[near].any()
    assert hours.counted[rows > row + 1].any()
