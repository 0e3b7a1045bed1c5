from __future__ import annotations

import numpy as np
import pytest

from market.bars.panel import CLOSE, HIGH, LOW, OPEN
from market.core.clock import Interval
from market.simulator.mark_path import KNOTS, mark_within
from market.simulator.simulated_market import simulate_bars


def test_the_path_has_exactly_the_bar() -> None:
    bars = simulate_bars(1, 2, 8, Interval.parse("1h")).values
    parts = np.linspace(0.0, 1.0, 41)
    for bar in bars:
        path = np.stack([mark_within(bar, float(part)) for part in parts])
        assert np.array_equal(path[0], bar[:, OPEN])
        assert np.array_equal(path[-1], bar[:, CLOSE])
        assert np.array_equal(path.max(axis=0), bar[:, HIGH])
        assert np.array_equal(path.min(axis=0), bar[:, LOW])


def test_a_rising_bar_visits_its_low_first_and_a_falling_one_its_high() -> None:
    bars = np.array([[100.0, 110.0, 90.0, 105.0, 1.0], [100.0, 110.0, 90.0, 95.0, 1.0]])
    assert mark_within(bars, KNOTS[1]).tolist() == [90.0, 110.0]
    assert mark_within(bars, KNOTS[2]).tolist() == [110.0, 90.0]


def test_between_two_knots_the_log_price_is_a_straight_line() -> None:
    bar = np.array([[100.0, 121.0, 100.0, 121.0, 1.0]])
    assert mark_within(bar, 0.5) == pytest.approx([110.0])


def test_a_coin_without_a_bar_has_no_price() -> None:
    bars = np.array([[np.nan] * 5, [1.0, 1.0, 1.0, 1.0, 0.0]])
    assert np.isnan(mark_within(bars, 0.3)).tolist() == [True, False]
