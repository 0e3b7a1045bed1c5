"""Cron lines: fields, weekdays and what is refused."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from market.core.errors import ConfigError
from pipelines.scheduler.cron import parse_cron
from pipelines.scheduler.trigger import cron_trigger

TUESDAY = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)


def starts(line: str, count: int, after: datetime = TUESDAY, zone: str = "UTC") -> list[str]:
    trigger, found = cron_trigger(line, ZoneInfo(zone)), []
    for _ in range(count):
        start = trigger.get_next_fire_time(None, after)
        assert start is not None
        found.append(start.astimezone(UTC).strftime("%a %d %H:%M:%S"))
        after = start + timedelta(microseconds=1)
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 3 * * *", ["Wed 25 03:00:00", "Thu 26 03:00:00"]),
        ("0 0 * * 0", ["Sun 29 00:00:00", "Sun 06 00:00:00"]),
        ("0 0 * * 7", ["Sun 29 00:00:00", "Sun 06 00:00:00"]),
        ("0 0 * * 1", ["Mon 30 00:00:00", "Mon 07 00:00:00"]),
        ("30 6 * * 5-7", ["Fri 27 06:30:00", "Sat 28 06:30:00", "Sun 29 06:30:00"]),
        ("0 12 * * mon,Wed", ["Wed 25 12:00:00", "Mon 30 12:00:00"]),
        ("*/20 * * * *", ["Tue 24 14:40:00", "Tue 24 15:00:00"]),
        ("*/15 * * * * *", ["Tue 24 14:30:00", "Tue 24 14:30:15"]),
        ("0 0 1 jan *", ["Fri 01 00:00:00"]),
        ("0 22-1 * * *", ["Tue 24 22:00:00", "Tue 24 23:00:00", "Wed 25 00:00:00"]),
        ("5 10/6 * * *", ["Tue 24 16:05:00", "Tue 24 22:05:00", "Wed 25 10:05:00"]),
    ],
)
def test_starts_are_those_of_cron_with_sunday_as_zero_and_seven(
    line: str, expected: list[str]
) -> None:
    assert starts(line, len(expected)) == expected


def test_starts_follow_the_time_zone_through_clock_changes() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert starts("0 3 * * *", 2, before, "Europe/Zurich") == ["Sun 29 01:00:00", "Mon 30 01:00:00"]


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("", "0 fields"),
        ("0 3 * *", "4 fields"),
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "day of week '8'"),
        ("*/0 * * * *", r"minute '\*/0'"),
        ("0 3 last * *", "day 'last'"),
        ("0 3 1 * 1", "day of month and weekday"),
        ("1,,2 * * * *", "minute '1,,2'"),
        ("@daily", "1 fields"),
        ("0 0 l * *", "day 'l'"),
        ("0 0 * * 5#2", "day of week '5#2'"),
        ("r * * * *", "minute 'r'"),
        ("٣ * * * *", "minute '٣'"),
    ],
)
def test_invalid_cron_line_is_refused_and_names_the_field(line: str, output: str) -> None:
    with pytest.raises(ConfigError, match=output):
        parse_cron(line)


@given(st.text("0123456789*/,- abcmonjan", max_size=20))
def test_any_text_is_read_or_refused_in_one_way(line: str) -> None:
    try:
        found = parse_cron(line)
    except ConfigError:
        return
    assert list(found) == ["second", "minute", "hour", "day", "month", "day_of_week"]
    cron_trigger(line)


def test_configuration_and_command_line_do_without_the_scheduler_that_the_endpoint_lacks() -> None:
    program = (
        "import sys, pipelines.cli.main; from pipelines.config.config import load_config; "
        "load_config(None); "
        "print([name for name in ('apscheduler', 'scipy', 'lightgbm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
