"""Time in Margincast: int64 nanoseconds since 1970-01-01 UTC, and bar intervals.

A bar is stamped with its open and known at its close; decision times are closes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from market.errors import ConfigError, DataError

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


def parse_time(text: str) -> int:
    """Nanoseconds of an ISO 8601 time; a time without an offset is UTC.

    Raises
    ------
    DataError
        The text is not an ISO 8601 date or time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise DataError(
            f"time {text!r} is not ISO 8601; write it like 2025-04-01T00:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * SECOND + moment.microsecond * 1_000


def format_time(nanoseconds: int) -> str:
    """ISO 8601 text in UTC, to the second, or to the microsecond where there is one."""
    seconds, rest = divmod(int(nanoseconds), SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1_000:06d}Z" if rest else f"{text}Z"
