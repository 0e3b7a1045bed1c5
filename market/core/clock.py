"""Time in Margincast: int64 nanoseconds since 1970-01-01 UTC, and bar intervals.

A bar is stamped with its open and known at its close; decision times are closes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from market.core.errors import ConfigError, DataError

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Interval:
    """Length of a bar.

    Attributes
    ----------
    name:
        One of ``1m``, ``5m``, ``30m``, ``1h``.
    nanoseconds:
        Its length in nanoseconds.
    """

    name: str
    nanoseconds: int

    @property
    def per_hour(self) -> int:
        """Number of bars in one hour."""
        return HOUR // self.nanoseconds

    @classmethod
    def parse(cls, name: str) -> Interval:
        """Read an interval by its name; raises `ConfigError` on any other name."""
        try:
            return INTERVALS[name]
        except KeyError:
            known = ", ".join(INTERVALS)
            raise ConfigError(f"interval {name!r} is not known; choose one of {known}") from None


INTERVALS = {
    name: Interval(name, minutes * MINUTE)
    for name, minutes in (("1m", 1), ("5m", 5), ("30m", 30), ("1h", 60))
}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SHOWN = 60
"""Characters of a refused text that an error repeats."""

FIRST_TIME = 0
"""The earliest time that Margincast reads, nanoseconds: 1970-01-01T00:00:00Z."""

END_OF_TIME = (datetime(2262, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND * 1_000
"""The first time beyond what it reads, nanoseconds: 2262-01-01T00:00:00Z.

The int64 count of nanoseconds ends on 2262-04-11: a hundred days are left for sums, like the
close of a bar or the deadline of a call.
"""

TIME_RANGE = "a time from 1970-01-01T00:00:00Z to the end of 2261"
"""Those limits in words, for messages."""


def parse_time(text: str) -> int:
    """Nanoseconds of an ISO 8601 time; a time without an offset is UTC.

    Raises
    ------
    DataError
        The text is not an ISO 8601 date or time, or the time is not within `FIRST_TIME` and
        `END_OF_TIME`.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise DataError(
            f"time {_shown(text)} is not ISO 8601; write it like 2025-04-01T00:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    nanoseconds = (moment - _EPOCH) // _MICROSECOND * 1_000
    if not FIRST_TIME <= nanoseconds < END_OF_TIME:
        raise DataError(f"time {_shown(text)} is out of range; expected {TIME_RANGE}")
    return nanoseconds


_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(rf"([0-9]{{1,9}})([{''.join(_UNITS)}])")
LONGEST_DURATION = 366 * DAY
DURATION_FORM = "a duration like 90s, 30m, 2h or 1d, above 0 and at most 366d"


def parse_duration(text: str) -> int:
    """Nanoseconds of a whole number of seconds, minutes, hours or days: ``90s 30m 2h 1d``.

    Raises
    ------
    DataError
        The text has another form, or the duration is 0 or over `LONGEST_DURATION`.
    """
    found = _DURATION.fullmatch(text)
    nanoseconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < nanoseconds <= LONGEST_DURATION:
        raise DataError(f"duration is {_shown(text)}; expected {DURATION_FORM}")
    return nanoseconds


def _shown(text: object) -> str:
    """What was given, on one line and no longer than a message can bear."""
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


@lru_cache(maxsize=4_096)
def format_time(nanoseconds: int) -> str:
    """ISO 8601 text in UTC, to the second, or to the microsecond where there is one."""
    seconds, rest = divmod(int(nanoseconds), SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1_000:06d}Z" if rest else f"{text}Z"
