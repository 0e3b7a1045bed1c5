"""Lead times by hand: labels at several horizons tell the interval in which a call comes."""

from __future__ import annotations

import numpy as np

from training.evaluation.lead_time import lead_times

HORIZONS = (1, 8, 24)


def labels(*hours_to_call: float) -> np.ndarray:
    return np.array([[hours <= h for h in HORIZONS] for hours in hours_to_call], dtype=np.int8)


def test_calls_are_counted_by_the_interval_they_come_in_and_alerts_are_of_all_rows() -> None:
    """A hundred rows, so one alert: the row 5 h before its call; others are not alerted."""
    y = labels(0.5, 5.0, 20.0, *[np.inf] * 97)
    p = np.concatenate(([0.5, 0.9, 0.4], np.full(97, 0.1)))
    inside = np.zeros(100, dtype=bool)
    inside[:3] = True
    found = lead_times(y, HORIZONS, p, {"window": inside, "calm": ~inside})
    assert found["window"]["found"] == {"0-1": 0.0, "1-8": 1.0, "8-24": 0.0}
    assert found["window"]["median_hours"] == [1, 8]
    assert found["calm"]["found"] == {"0-1": None, "1-8": None, "8-24": None}
    assert found["calm"]["median_hours"] is None


def test_median_lies_where_half_of_the_alerted_calls_are_reached() -> None:
    y = labels(*[20.0] * 6, 0.5, 0.5, 5.0, *[np.inf] * 891)
    p = np.concatenate((np.full(9, 0.9), np.full(891, 0.1)))
    (found,) = lead_times(y, HORIZONS, p, {"all": np.ones(900, dtype=bool)}).values()
    assert found["found"] == {"0-1": 1.0, "1-8": 1.0, "8-24": 1.0}
    assert found["median_hours"] == [8, 24]
