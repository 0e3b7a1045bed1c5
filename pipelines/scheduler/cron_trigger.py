"""A cron line as APScheduler takes it; needs the extra ``training``."""

from __future__ import annotations

from datetime import UTC, tzinfo

from apscheduler.triggers.cron import CronTrigger

from pipelines.scheduler.crontab import WEEKDAYS, parse_cron


def cron_trigger(line: str, zone: tzinfo = UTC, jitter: int = 0) -> CronTrigger:
    """APScheduler's trigger of a cron line, see `parse_cron`.

    Parameters
    ----------
    line:
        The cron line.
    zone:
        Time zone in which the fields are read.
    jitter:
        Seconds over which starts are spread.
    """
    fields = parse_cron(line)
    texts = {name: ",".join(map(str, numbers)) or "*" for name, numbers in fields.items()}
    if fields["day_of_week"]:
        texts["day_of_week"] = ",".join(WEEKDAYS[day] for day in fields["day_of_week"])
    return CronTrigger(**texts, timezone=zone, jitter=jitter or None)
