"""Notifications of a verdict: one JSON object to the stdin of a command or to a webhook.

A command gets a message once, a webhook at most `attempts` times. Failures are logged on stderr
and recorded in the ledger (kind ``notification``), and never fail the job.

The webhook carries ``Margincast-Signature: sha256=<hex>``, the HMAC-SHA256 of the body under the
secret in MARGINCAST_NOTIFY_SECRET; without a secret it is sent unsigned, and recorded as such.
The body has a time and an id, so that a receiver can refuse a duplicate.

Reference: RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ledger.records import Entry, new_id
from ledger.store import Ledger
from market.core.clock import SECOND, format_time
from market.core.errors import LedgerError
from market.core.redaction import redact
from pipelines.config.config import Config
from pipelines.config.job_sections import NotifyConfig

SECRET = "MARGINCAST_NOTIFY_SECRET"  # noqa: S105  the variable's name
SIGNATURE = "Margincast-Signature"

_COMMAND_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_REPORT_KEYS = (
    *("bundle", "champion_before", "champion", "mlflow_run"),
    *("data_sha256", "ruleset_sha256", "change"),
)
_PAUSE_SECONDS = 0.5
_SHOWN = 200

_LOG = logging.getLogger("margincast.notify")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which could lead to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


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
        outcomes.append({"channel": "command"} | _run(settings, body))
    if settings.webhook:
        outcomes.append({"channel": "webhook"} | _post(settings, body))
    for outcome in outcomes:
        if not outcome["ok"]:
            _LOG.warning(
                "notification of %s by %s: %s",
                *(message["job"], outcome["channel"], outcome["detail"]),
            )
    if outcomes:
        _record(config, message, outcomes)
    return outcomes


def _run(settings: NotifyConfig, body: bytes) -> dict[str, Any]:
    environment = {name: os.environ[name] for name in _COMMAND_ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            settings.command,
            input=body,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=settings.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _outcome(False, f"no end within {settings.timeout} s", 1)
    except OSError as error:
        return _outcome(False, f"cannot be started ({error.strerror})", 1)
    except ValueError as error:  # an argument with a NUL
        return _outcome(False, f"cannot be started ({error})", 1)
    output = done.stderr.decode(errors="replace").strip()[-_SHOWN:]
    detail = f"exit {done.returncode}" + (f": {output}" if output else "")
    return _outcome(done.returncode == 0, detail, 1)


def _post(settings: NotifyConfig, body: bytes) -> dict[str, Any]:
    """Post until success, a permanent refusal (4xx except 408 and 429), or the last attempt."""
    secret = os.environb.get(SECRET.encode(), b"")
    headers = {"Content-Type": "application/json", "User-Agent": "margincast"}
    if secret:
        digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
        headers[SIGNATURE] = f"sha256={digest}"
    handlers: list[Any] = [_NoRedirect()]
    if urlsplit(settings.webhook).scheme == "http":
        handlers.append(urllib.request.ProxyHandler({}))  # loopback: without a proxy
    opener = urllib.request.build_opener(*handlers)
    detail = ""
    for attempt in range(1, settings.attempts + 1):
        request = urllib.request.Request(settings.webhook, body, headers, method="POST")  # noqa: S310  the scheme is checked by the configuration
        try:
            with opener.open(request, timeout=settings.timeout) as response:
                return _outcome(True, f"status {response.status}", attempt, signed=bool(secret))
        except urllib.error.HTTPError as error:
            detail = f"status {error.code}"
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                return _outcome(False, detail, attempt, signed=bool(secret))
        except (http.client.InvalidURL, ValueError) as error:
            # Its text may repeat the address, whose path can be a secret.
            return _outcome(False, type(error).__name__, attempt, signed=bool(secret))
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            detail = redact(f"{type(error).__name__} ({reason})", settings.webhook)[:_SHOWN]
        if attempt < settings.attempts:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
    return _outcome(False, detail, settings.attempts, signed=bool(secret))


def _outcome(ok: bool, detail: str, attempts: int, **more: bool) -> dict[str, Any]:
    return {"ok": ok, "detail": detail, "attempts": attempts, **more}


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
