"""Notifications of a verdict: one JSON object to the stdin of a command or to a webhook.

A command gets a message once, a webhook at most `attempts` times. Failures are logged on stderr
and recorded in the ledger (kind ``notification``), and never fail the job.

The webhook is signed as those of enforcement are (`enforcement.delivery.signature`), under the
secret in MARGINCAST_NOTIFY_SECRET; without a secret it is sent unsigned, and recorded as such. The
event id is that of the message, so that a receiver can refuse a duplicate.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from enforcement.delivery.command import CommandSink
from enforcement.delivery.sinks import Message, Outcome
from enforcement.delivery.webhook import WebhookSink
from ledger.records import Entry, new_id
from ledger.store import Ledger
from market.core.clock import SECOND, format_time
from market.core.errors import LedgerError
from market.core.redaction import redact
from pipelines.config.config import Config
from pipelines.config.job_sections import NotifyConfig

SECRET = "MARGINCAST_NOTIFY_SECRET"  # noqa: S105  the variable's name

_REPORT_KEYS = (
    *("bundle", "champion_before", "champion", "mlflow_run"),
    *("data_sha256", "ruleset_sha256", "change"),
)
_PAUSE_SECONDS = 0.5

_LOG = logging.getLogger("margincast.notify")


def run_and_notify(config: Config, job: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a job and send its verdict, or its failure; returns its report.

    Raises
    ------
    Exception
        Any error of the job, after its notification.
    """
    try:
        report = run()
    except Exception as error:
        failed = {"verdict": "failed", "reasons": [redact(f"{type(error).__name__}: {error}")]}
        send(config, message(job, failed))
        raise
    send(config, message(job, report))
    return report


def message(job: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """The message on a report: verdict, reasons, bundle, data, skill and drift."""
    drift = (report if job == "drift" else report.get("drift")) or {}
    events = [report["verdict"]] if job == "retrain" or report["verdict"] == "failed" else []
    if drift.get("verdict") == "drift":
        events.append("drift")
    evaluation = report.get("evaluation") or {"horizons": {}}
    return {
        "id": new_id(),
        "job": job,
        "events": events,
        "sent_at": format_time(time.time_ns() // SECOND * SECOND),
        "verdict": report["verdict"],
        "reasons": list(report.get("reasons", [])),
        **{key: report.get(key) for key in _REPORT_KEYS},
        "log_loss_skill": {
            hours: {
                "against": figures["best_baseline"],
                "skill": figures["log_loss_skill"],
                "ci95": figures["log_loss_skill_ci95"],
            }
            for hours, figures in evaluation["horizons"].items()
        },
        "drift": None
        if not drift or report["verdict"] == "failed"
        else {key: drift.get(key) for key in ("verdict", "drifted", "undecided")},
    }


def send(config: Config, message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Send a message over the channels of `[notify]`; returns the outcome of each."""
    settings = config.notify
    if not set(message["events"]) & set(settings.on):
        return []
    body = json.dumps(message, allow_nan=False, default=str).encode()
    outcomes: list[dict[str, Any]] = []
    if settings.command:
        command = CommandSink("notify", settings.command, settings.timeout)
        ran = command.send(Message(message["id"], "", body))
        outcomes.append({"channel": "command"} | _shown(ran, 1))
    if settings.webhook:
        outcomes.append({"channel": "webhook"} | _post(settings, body, message["id"]))
    for outcome in outcomes:
        if not outcome["ok"]:
            _LOG.warning(
                "notification of %s by %s: %s",
                *(message["job"], outcome["channel"], outcome["detail"]),
            )
    if outcomes:
        _record(config, message, outcomes)
    return outcomes


def _post(settings: NotifyConfig, body: bytes, event_id: str) -> dict[str, Any]:
    """Post until success, a refusal for what the message is, or the last attempt."""
    secret = os.environb.get(SECRET.encode(), b"")
    # The one host that is configured is allowed by that, wherever it is.
    try:
        host = urlsplit(settings.webhook).hostname or ""
    except ValueError:
        host = ""
    sink = WebhookSink("notify", settings.webhook, secret, (host,), settings.timeout)
    for attempt in range(1, settings.attempts + 1):
        outcome = sink.send(Message(event_id, "", body))
        if outcome.ok or outcome.final or attempt == settings.attempts:
            break
        time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
    return _shown(outcome, attempt) | {"signed": bool(secret)}


def _shown(outcome: Outcome, attempts: int) -> dict[str, Any]:
    return {"ok": outcome.ok, "detail": outcome.detail, "attempts": attempts}


def _record(config: Config, message: Mapping[str, Any], outcomes: list[dict[str, Any]]) -> None:
    payload = {
        "job": message["job"],
        "events": message["events"],
        "bundle": message["bundle"],
        "message_id": message["id"],
        "outcomes": outcomes,
    }
    try:
        with Ledger(config.ledger.url, chain="registry") as ledger:
            ledger.append([Entry(kind="notification", payload=payload)])
    except LedgerError as error:
        _LOG.error("notification of %s is not recorded: %s", message["job"], error)
