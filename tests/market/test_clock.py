"""Times and intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.clock import DAY, HOUR, INTERVALS, SECOND, Interval, format_time, parse_time
from market.errors import ConfigError, DataError


def test_naive_time_is_utc_and_an_offset_is_respected() -> None:
    expected = 1_743_465_600 * SECOND
    assert parse_time("2025-04-01") == expected
    assert parse_time("2025-04-01T00:00:00") == expected
    assert parse_time("2025-04-01T00:00:00Z") == expected
    assert parse_time("2025-04-01T02:00:00+02:00") == expected


def test_microseconds_are_exact_also_before_1970() -> None:
    assert parse_time("2025-04-01T00:00:00.000001Z") == 1_743_465_600 * SECOND + 1_000
    assert parse_time("1969-12-31T23:59:59.500000Z") == -SECOND // 2


@given(st.integers(-10 * 365 * DAY // 1_000, 200 * 365 * DAY // 1_000))
def test_text_and_back_is_exact(microseconds: int) -> None:
    nanoseconds = microseconds * 1_000
    assert parse_time(format_time(nanoseconds)) == nanoseconds


def test_whole_seconds_are_written_without_a_fraction() -> None:
    assert format_time(1_743_465_600 * SECOND) == "2025-04-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2025-13-01", "1743465600", None])
def test_text_that_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(DataError, match=r"is not ISO 8601; write it like"):
        parse_time(text)


@pytest.mark.parametrize(("name", "per_hour"), [("1m", 60), ("5m", 12), ("30m", 2), ("1h", 1)])
def test_intervals_divide_the_hour(name: str, per_hour: int) -> None:
    interval = Interval.parse(name)
    assert interval.name == name
    assert interval.per_hour == per_hour
    assert interval.nanoseconds * per_hour == HOUR


@pytest.mark.parametrize("name", ["4h", "1H", "60m", ""])
def test_unknown_interval_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*{', '.join(INTERVALS)}"):
        Interval.parse(name)
