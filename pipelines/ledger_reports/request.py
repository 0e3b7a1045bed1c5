"""What a report is asked of: its span and, for some kinds, an account or a call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from market.core.clock import DAY, format_time, parse_time
from market.core.errors import ConfigError

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time after `start`, up to and with `end`, nanoseconds.

    The close of a day at 24:00 belongs to that day.
    """

    start: int
    end: int

    @classmethod
    def of(cls, day: str | None, start: str | None, end: str | None) -> Span:
        """The span of a date, or between two times or dates (of `end` the whole day).

        Raises
        ------
        ConfigError
            Neither or both are given, a text is no time, or nothing lies between.
        """
        if day is not None and start is None and end is None:
            first = _time(day, "--date", whole_day=True)
            return cls(first, first + DAY)
        if day is not None or start is None or end is None:
            raise ConfigError(
                "a report needs --date, or --from and --to together; give one of the two"
            )
        first, last = _time(start, "--from"), _time(end, "--to")
        if _DATE.fullmatch(end):
            last += DAY
        if last <= first:
            raise ConfigError(f"--to {end!r} is not after --from {start!r}; swap them")
        return cls(first, last)

    def __contains__(self, time: int) -> bool:
        return self.start < time <= self.end

    def days(self) -> Iterator[int]:
        """The ends of the days (UTC) within the span, and the end of the span."""
        time = (self.start // DAY + 1) * DAY
        while time < self.end:
            yield time
            time += DAY
        yield self.end

    def facts(self) -> dict[str, str]:
        """Start and end for a report."""
        return {"span_from": format_time(self.start), "span_to": format_time(self.end)}


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Span of a report; account or call where the kind takes one."""

    span: Span
    account: str | None = None
    call: str | None = None


def _time(text: str, option: str, *, whole_day: bool = False) -> int:
    if _DATE.fullmatch(text):
        try:
            date.fromisoformat(text)
        except ValueError:
            raise ConfigError(f"{option} {text!r} is no date; give one like 2026-01-31") from None
        return parse_time(f"{text}T00:00:00Z")
    if whole_day:
        raise ConfigError(f"{option} {text!r} is no date; give one like 2026-01-31")
    return parse_time(text)
