"""Cron lines, read with croniter.

APScheduler's own parser counts weekdays from Monday, cron from Sunday, and the base installation
lacks APScheduler; `pipelines.scheduler.trigger` gives it plain lists of numbers.
"""

from __future__ import annotations

import re

from croniter import croniter
from croniter.croniter import CroniterError

from market.core.errors import ConfigError

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGES = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day": "1 to 31",
    "month": "1 to 12",
    "day_of_week": "0 to 7",
}
_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_FIELD = re.compile(rf"(?:[0-9*,/-]|{_NAMES})+", re.IGNORECASE)


def parse_cron(line: str) -> dict[str, tuple[int, ...]]:
    """The numbers of each field of a cron line; an empty tuple stands for all.

    Fields are minute, hour, day of month, month, weekday, with seconds (else 0) in front. A field
    is a list of ``*``, ``a``, ``a-b``, each with ``/step``. Months and weekdays may be names;
    weekdays 0 and 7 are Sunday. A line that restricts both day of month and weekday is refused:
    cron starts on either day, other programs only on days that are both.

    Raises
    ------
    ConfigError
        The line is malformed.

    References
    ----------
    POSIX.1-2024, crontab; croniter documentation.
    """
    fields = line.split()
    if len(fields) not in (5, 6):
        raise ConfigError(
            f"cron line {line!r} has {len(fields)} fields; give minute, hour, day, month and "
            "weekday (and seconds in front, if wanted)"
        )
    if len(fields) == 5:
        fields = ["0", *fields]
    numbers = {
        name: _expand(line, position, field)
        for position, (name, field) in enumerate(zip(_RANGES, fields, strict=True))
    }
    if numbers["day"] and numbers["day_of_week"]:
        raise ConfigError(
            f"cron line {line!r} restricts day of month and weekday at once, which programs read "
            "differently; give '*' for one of them"
        )
    return numbers


def _expand(line: str, position: int, field: str) -> tuple[int, ...]:
    """The numbers of one field, without croniter's extensions (``l``, ``#``, ``r``)."""
    fields = ["*"] * len(_RANGES)
    fields[position] = field
    try:
        if not _FIELD.fullmatch(field):
            raise ValueError(field)
        expanded, _ = croniter.expand(" ".join(fields), second_at_beginning=True)
    except (CroniterError, ValueError):
        name, numbers = list(_RANGES.items())[position]
        raise ConfigError(
            f"cron line {line!r} has the {name.replace('_', ' ')} {field!r}; give *, numbers from "
            f"{numbers}, ranges and lists of them, with a step if wanted"
        ) from None
    values = [*expanded[5:], *expanded[:5]][position]
    return () if values == ["*"] else tuple(sorted(int(value) for value in values))
