"""Cron lines as POSIX means them.

Read here and not by APScheduler, which counts weekdays from Monday and not from Sunday, and which
the base installation lacks: `pipelines.scheduler.cron_trigger` gives it plain lists of numbers.
"""

from __future__ import annotations

import re

from market.core.errors import ConfigError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGES: dict[str, tuple[int, int]] = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day": (1, 31),
    "month": (1, 12),
    "day_of_week": (0, 7),
}
_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?")


def parse_cron(line: str) -> dict[str, tuple[int, ...]]:
    """The numbers that each field of a cron line names; an empty tuple for a bare ``*``.

    Fields are minute, hour, day of month, month, weekday; a sixth in front gives seconds, else
    second 0 is meant. A field is a list of ``*``, ``a``, ``a-b``, each with ``/step``. Months and
    weekdays may be named; weekday 0 and 7 are Sunday. A line that restricts both day of month and
    weekday is refused: cron takes either day, other programs only days that are both.

    Raises
    ------
    ConfigError
        The line is malformed.

    References
    ----------
    POSIX.1-2024, crontab.
    """
    fields = line.split()
    if len(fields) not in (5, 6):
        raise ConfigError(
            f"cron line {line!r} has {len(fields)} fields; give minute, hour, day, month and "
            "weekday (and seconds in front, if wanted)"
        )
    if len(fields) == 5:
        fields = ["0", *fields]
    found = {name: _field(name, text, line) for name, text in zip(_RANGES, fields, strict=True)}
    if found["day"] and found["day_of_week"]:
        raise ConfigError(
            f"cron line {line!r} restricts day of month and weekday at once, which programs read "
            "differently; give '*' for one of them"
        )
    return found


def _field(name: str, text: str, line: str) -> tuple[int, ...]:
    if text == "*":
        return ()
    low, high = _RANGES[name]
    numbers: set[int] = set()
    for part in text.lower().split(","):
        match = _PART.fullmatch(part)
        begin = end = step = -1
        if match is not None:
            first, last, by = match.groups()
            step = int(by or 1)
            begin = low if first is None else _number(name, first)
            whole = first is None or (by is not None and last is None)
            end = (6 if name == "day_of_week" else high) if whole else _number(name, last or first)
        if not (low <= begin <= end <= high and step >= 1):
            raise ConfigError(
                f"cron line {line!r} has the {name.replace('_', ' ')} {part!r}; give *, a number "
                f"from {low} to {high}, or a rising range, with a step if wanted"
            )
        numbers.update(range(begin, end + 1, step))
    if name == "day_of_week":
        numbers = {number % 7 for number in numbers}
    return tuple(sorted(numbers))


def _number(name: str, text: str) -> int:
    """A number or name, -1 for what is neither."""
    if name == "month" and text in _MONTHS:
        return _MONTHS.index(text) + 1
    if name == "day_of_week" and text in WEEKDAYS:
        return WEEKDAYS.index(text)
    return int(text) if text.isascii() and text.isdigit() else -1
