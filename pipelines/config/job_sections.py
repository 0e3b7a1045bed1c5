"""The sections of the jobs: drift, the choice of p*, schedule, notifications.

As in `pipelines.config.sections`, a section is a frozen model that refuses invalid values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from pipelines.config.fields import (
    Command,
    Count,
    NonemptyPath,
    Section,
    cron_line,
    invalid,
    is_loopback,
    web_address,
)

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seconds = Annotated[int, Field(strict=True, ge=0)]
CronLine = Annotated[str, cron_line("0 3 * * *")]
ReportKind = Literal[
    "daily-margin",
    "calls",
    "coverage",
    "procyclicality",
    "concentration",
    "overrides",
    "change-events",
    "audit-extract",
]
Event = Literal["promoted", "kept", "refused", "failed", "drift"]


class DriftConfig(Section):
    """Smallest relevant effects of drift, and the accepted chance of a false alarm.

    See `training.drift.monitors.Floors` for the five effects; `level` applies to each kind of
    monitor over all its columns. Only the newest `recent_days` are compared with training.
    """

    recent_days: Annotated[Count, Field(le=3_650)] = 56
    distribution: Share = 0.1
    missing: Share = 0.05
    ratio: Annotated[float, Field(gt=1.0, allow_inf_nan=False)] = 1.25
    slope: Positive = 0.1
    loss: Positive = 0.1
    level: Share = 0.05
    permutations: Annotated[int, Field(strict=True, ge=99, le=100_000)] = 4999


class PolicyConfig(Section):
    """Costs that ``margincast policy`` weighs, see `training.backtest.p_star_choice`.

    ``collateral_cost`` is a share of the add-on a year, ``call_cost`` of each call a share of the
    gross notional of the account that is called (0.0001: one basis point), ``uncovered_value``
    what a unit of uncovered loss costs. ``account_hours`` is the least size of the sample of each
    span.
    """

    collateral_cost: NonNegative = 0.05
    call_cost: NonNegative = 0.0001
    uncovered_value: NonNegative = 1.0
    account_hours: Count = 60_000


class ScheduleConfig(Section):
    """Cron lines of the jobs: five fields, or six with seconds first.

    An empty line switches a job off. A missed start is run up to `misfire_grace` seconds late;
    `coalesce` replaces several missed starts by one run; `jitter` spreads starts over so many
    seconds.
    """

    cron: CronLine = "0 3 * * *"
    drift_cron: CronLine = ""
    timezone: str = "UTC"
    jitter: Seconds = 0
    misfire_grace: Annotated[int, Field(strict=True, ge=1)] = 21_600
    coalesce: Annotated[bool, Field(strict=True)] = True

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise invalid("a time zone like UTC or Europe/Zurich") from None
        return name


class ReportsConfig(Section):
    """Reports on the live book that the scheduler writes, see `pipelines.ledger_reports`.

    ``cron``: when, as in `ScheduleConfig`; empty: never. Each run writes the newest day after
    whose end the book was evaluated into a folder of its date below ``folder``, each of ``kinds``
    in each of ``formats``; coverage and procyclicality look back ``days`` days.
    """

    cron: CronLine = ""
    folder: NonemptyPath = Path("var/reports")
    kinds: tuple[ReportKind, ...] = (
        *("daily-margin", "calls", "coverage", "procyclicality", "concentration", "overrides"),
        "change-events",
    )
    formats: tuple[Literal["html", "csv", "parquet", "pdf"], ...] = ("html",)
    days: Annotated[Count, Field(le=3_650)] = 250


class NotifyConfig(Section):
    """Receivers of verdicts: a command (argument vector, JSON on its stdin), a webhook, or both.

    Without either no notification is sent. The webhook is signed with the secret in the environment
    variable MARGINCAST_NOTIFY_SECRET, see `pipelines.scheduler.notify`.
    """

    command: Command = ()
    webhook: str = Field(default="", repr=False)
    on: tuple[Event, ...] = ("promoted", "kept", "refused", "failed", "drift")
    timeout: Annotated[int, Field(strict=True, ge=1, le=300)] = 10
    attempts: Annotated[Count, Field(le=10)] = 3

    @field_validator("webhook")
    @classmethod
    def _encrypted_or_local(cls, webhook: str) -> str:
        if not webhook:
            return webhook
        parts = urlsplit(web_address(webhook))
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise invalid(
                "an address like https://example.com/hook without a user name; http only for "
                "this machine itself (loopback)"
            )
        return webhook
