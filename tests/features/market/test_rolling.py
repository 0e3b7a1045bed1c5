"""The rolling mean beneath the windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from features.market import rolling
from market.core.clock import INTERVALS


def _means(values: list[float], window: int) -> list[float]:
    row = np.zeros(rolling.HEADER + window)
    means = []
    for value in values:
        rolling.push(row, window, value)
        means.append(rolling.mean(row, window))
    return means


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=80),
    st.integers(1, 20),
)
def test_mean_equals_plain_python(values: list[float], window: int) -> None:
    for end, got in enumerate(_means(values, window), start=1):
        valid = [x for x in values[max(0, end - window) : end] if not math.isnan(x)]
        if end < window or 2 * len(valid) < window:
            assert math.isnan(got)
        else:
            assert got == pytest.approx(math.fsum(valid) / len(valid), rel=1e-9, abs=1e-7)


def test_half_of_the_window_is_enough_and_less_is_not() -> None:
    assert _means([1.0, 3.0, math.nan, math.nan], 4)[-1] == 2.0
    assert math.isnan(_means([math.nan, 3.0, math.nan, math.nan], 4)[-1])


def test_rounding_does_not_outlive_the_window() -> None:
    # What 1e16 swallows is lost to a running sum; the sum taken anew at each wrap has it again.
    values = [1e16, *[0.1] * 11]
    assert _means(values, 4)[-1] == pytest.approx(0.1, rel=1e-15)


def test_cleared_row_is_as_new() -> None:
    row = np.zeros(rolling.HEADER + 3)
    for value in (5.0, math.nan, 7.0, 9.0):
        rolling.push(row, 3, value)
    rolling.clear(row)
    assert row.tolist() == [0.0] * len(row)


@pytest.mark.parametrize(("interval", "bars"), [("1h", 24), ("30m", 48), ("5m", 288), ("1m", 1440)])
def test_window_is_counted_in_bars(interval: str, bars: int) -> None:
    assert rolling.bars_in(24.0, INTERVALS[interval]) == bars
    assert rolling.window_params(24.0)(INTERVALS[interval]) == (bars,)
    assert rolling.state_size(24.0)(INTERVALS[interval]) == rolling.HEADER + bars
