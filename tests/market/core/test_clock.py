"""Times and intervals."""

from __future__ import annotations

import contextlib
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given, strategies as st

from market.core.clock import (
    DAY,
    END_OF_TIME,
    FIRST_TIME,
    HOUR,
    INTERVALS,
    SECOND,
    Interval,
    format_time,
    parse_duration,
    parse_time,
)
from market.core.errors import ConfigError, DataError, MargincastError


def test_naive_time_is_utc_and_an_offset_is_respected() -> None:
    expected = 1_743_465_600 * SECOND
    assert parse_time("2025-04-01") == expected
    assert parse_time("2025-04-01T00:00:00") == expected
    assert parse_time("2025-04-01T00:00:00Z") == expected
    assert parse_time("2025-04-01T02:00:00+02:00") == expected


def test_microseconds_are_exact() -> None:
    assert parse_time("2025-04-01T00:00:00.000001Z") == 1_743_465_600 * SECOND + 1_000


@given(st.integers(FIRST_TIME // 1_000, END_OF_TIME // 1_000 - 1))
def test_text_and_back_is_exact(microseconds: int) -> None:
    nanoseconds = microseconds * 1_000
    assert parse_time(format_time(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00+01:00",
        "2262-01-01T00:00:00Z",
        "2261-12-31T23:00:00-02:00",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_time_that_nanoseconds_or_text_cannot_hold_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(DataError, match=r"out of range; expected a time from 1970.* 2261") as error:
        parse_time(text)
    assert text in str(error.value)


def test_limits_allow_sums_within_int64() -> None:
    assert parse_time("1970-01-01T00:00:00Z") == FIRST_TIME
    newest = parse_time("2261-12-31T23:59:59.999999Z")
    assert newest == END_OF_TIME - 1_000
    assert newest + 100 * DAY <= np.iinfo(np.int64).max
    assert format_time(newest + 100 * DAY).startswith("2262-04-10")


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?"),
        st.datetimes(timezones=st.none() | st.timezones()).map(datetime.isoformat),
        st.dates().map(date.isoformat),
    )
)
def test_text_is_a_time_that_can_be_written_or_refused_by_a_margincast_error(text: str) -> None:
    try:
        nanoseconds = parse_time(text)
    except MargincastError:
        return
    assert parse_time(format_time(nanoseconds)) == nanoseconds


def test_refused_text_is_not_repeated_at_any_length() -> None:
    with pytest.raises(DataError) as error:
        parse_time("x" * 1_000_000)
    assert len(str(error.value)) < 200


def test_whole_seconds_are_written_without_a_fraction() -> None:
    assert format_time(1_743_465_600 * SECOND) == "2025-04-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2025-13-01", "1743465600", None])
def test_text_that_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(DataError, match=r"is not ISO 8601; write it like"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("90s", 90 * SECOND), ("30m", HOUR // 2), ("2h", 2 * HOUR), ("366d", 366 * DAY)],
)
def test_duration_is_a_number_with_its_unit(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "0s", "2", "h", "1.5h", "-1h", "2 h", "2H", "367d", "9" * 99])
def test_text_that_is_no_duration_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(DataError, match="expected a duration like 90s, 30m, 2h or 1d"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_duration_above_zero_or_refused(text: str) -> None:
    with contextlib.suppress(MargincastError):
        assert 0 < parse_duration(text) <= 366 * DAY


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
