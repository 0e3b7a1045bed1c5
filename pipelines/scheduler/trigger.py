"""APScheduler's trigger for a cron line; needs the extra ``training``."""

from __future__ import annotations

from datetime import UTC, tzinfo

from apscheduler.triggers.cron import CronTrigger

from pipelines.scheduler.cron import WEEKDAYS, parse_cron


def cron_trigger(line: str, zone: tzinfo = UTC, jitter: int = 0) -> CronTrigger:
    """The trigger for a cron line in a time zone, with starts spread over `jitter` seconds."""
    numbers = parse_cron(line)
    texts = {name: ",".join(map(str, values)) or "*" for name, values in numbers.items()}
    if numbers["day_of_week"]:
        texts["day_of_week"] = ",".join(WEEKDAYS[day] for day in numbers["day_of_week"])
    return CronTrigger(**texts, timezone=zone, jitter=jitter or None)
