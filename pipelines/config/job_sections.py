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

    An alarm needs an effect of at least this size that is also significant, see
    `training.drift.monitors.Floors`.
    """

    recent_days: Annotated[Count, Field(le=3_650)] = 56
    """Newest days that are compared with training."""
    distribution: Share = 0.1
    """Smallest relevant Kolmogorov-Smirnov distance of a feature or score."""
    missing: Share = 0.05
    """Smallest relevant change of a feature's share of missing rows."""
    ratio: Annotated[float, Field(gt=1.0, allow_inf_nan=False)] = 1.25
    """Smallest relevant factor on the mean probability, or on observed over predicted."""
    slope: Positive = 0.1
    """Smallest relevant change of the calibration slope."""
    loss: Positive = 0.1
    """Smallest relevant log of the factor on log loss over its expectation."""
    level: Share = 0.05
    """Chance of a false alarm within each kind of monitor, over all its columns."""
    permutations: Annotated[int, Field(strict=True, ge=99, le=100_000)] = 4999
    """Permutations of each test."""


class PolicyConfig(Section):
    """Costs that `margincast policy` weighs, see docs/policy.md."""

    collateral_cost: NonNegative = 0.05
    """Cost of collateral, a share of the add-on a year."""
    call_cost: NonNegative = 0.0001
    """Cost of each call, a share of the gross notional of the account that is called (0.0001: one
    basis point)."""
    uncovered_value: NonNegative = 1.0
    """Cost of a unit of uncovered loss."""
    account_hours: Count = 60_000
    """Least account-hours of each span."""


class ScheduleConfig(Section):
    """When `margincast schedule` starts its jobs."""

    cron: CronLine = "0 3 * * *"
    """When to retrain; empty: never. Five fields, or six with seconds first."""
    drift_cron: CronLine = ""
    """When to check for drift; empty: never."""
    timezone: str = "UTC"
    """Time zone of the cron lines."""
    jitter: Seconds = 0
    """Seconds over which starts are spread."""
    misfire_grace: Annotated[int, Field(strict=True, ge=1)] = 21_600
    """A missed start is caught up within so many seconds."""
    coalesce: Annotated[bool, Field(strict=True)] = True
    """Several missed starts are one run."""

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise invalid("a time zone like UTC or Europe/Zurich") from None
        return name


class ReportsConfig(Section):
    """Reports on the live book that the scheduler writes.

    Each run writes the newest day after whose end the book was evaluated, see
    `pipelines.ledger_reports`.
    """

    cron: CronLine = ""
    """When to write the reports; empty: never."""
    folder: NonemptyPath = Path("var/reports")
    """Below it, each run writes a folder of its date."""
    kinds: tuple[ReportKind, ...] = (
        *("daily-margin", "calls", "coverage", "procyclicality", "concentration", "overrides"),
        "change-events",
    )
    """Reports to write, see [reports](../reports.md)."""
    formats: tuple[Literal["html", "csv", "parquet", "pdf"], ...] = ("html",)
    """html, csv, parquet, or pdf from the extra pdf."""
    days: Annotated[Count, Field(le=3_650)] = 250
    """How far coverage and procyclicality look back, days."""


class NotifyConfig(Section):
    """Receivers of verdicts: a command, a webhook, or both.

    Without either no notification is sent, see `pipelines.scheduler.notify`.
    """

    command: Command = ()
    """Argument vector that gets JSON on its standard input; never a shell."""
    webhook: str = Field(default="", repr=False)
    """Address of a webhook; MARGINCAST_NOTIFY_SECRET signs it."""
    on: tuple[Event, ...] = ("promoted", "kept", "refused", "failed", "drift")
    """Verdicts that are sent."""
    timeout: Annotated[int, Field(strict=True, ge=1, le=300)] = 10
    """Longest time of one attempt, seconds."""
    attempts: Annotated[Count, Field(le=10)] = 3
    """Attempts to send one verdict."""

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
