"""Views of a history: the age of bars counts from the newest accepted one."""

from __future__ import annotations

import numpy as np

from margin.valuation.history_view import HistoryViews
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, Interval


def test_ages_count_from_the_newest_accepted_bar() -> None:
    bars = np.full((6, 2, 5), np.nan)
    bars[[0, 3], 0] = 1.0
    bars[2, 1] = 1.0
    opens = HOUR * np.arange(6, dtype=np.int64)
    panel = BarPanel(Interval.parse("1h"), ("A", "B"), opens, bars)
    views = HistoryViews(MarketHistory.from_panel(panel), mark_max_age=HOUR // 2)
    ages = [views.at(row).age_hours.tolist() for row in range(1, 6)]
    np.testing.assert_array_equal(
        ages, [[1.0, np.nan], [2.0, 0.0], [0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    )
    assert views.at(5).mark_max_age_hours == 0.5
    assert views.at(5).as_of == 6 * HOUR
