"""The scheduler: runs retraining, drift checks, heads of the ledger and reports by cron lines.

APScheduler keeps the time. Each run is a process, whose memory is returned to the system and whose
crash is only a failed run. Planned starts and current runs are written to disk first
(`pipelines.scheduler.schedule_state`): after a restart a missed start or an interrupted run is
repeated once, within ``misfire_grace``. Retraining is idempotent, so an extra run only costs time.

Reference: APScheduler 3.11, user guide, "Missed job executions and coalescing".
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from apscheduler.events import (
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    JobEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from msgspec.structs import replace

from market.core.errors import ConfigError
from pipelines.config.config import Config, load_config
from pipelines.scheduler.lock import RETRAIN_LOCK, exclusive, is_held
from pipelines.scheduler.notify import message, send
from pipelines.scheduler.schedule_state import Finished, JobState, ScheduleState
from pipelines.scheduler.trigger import cron_trigger

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

FOLDER = "schedule"
"""Folder beside the bundles: state, lock and the newest report of each job."""

VERDICT_CODES = frozenset({0, 1, 3, 5})
"""Exit codes of a job that sent its verdict itself, unless it could not read its settings."""

FAILED = 1

HEADS = "heads"
"""The job of `margincast ledger heads`."""

REPORTS = "reports"
"""The job of `margincast report scheduled`."""

_WORDS = {HEADS: ("ledger", "heads"), REPORTS: ("report", "scheduled")}
"""Verbs of jobs that have another name."""

_STOP_SECONDS = 10.0

Command = Callable[[str, Path], list[str]]
"""Argument vector for the name of a job and the file of its report."""


def job_lines(config: Config) -> dict[str, str]:
    """The cron line of each job that has one."""
    lines = {
        "retrain": config.schedule.cron,
        "drift": config.schedule.drift_cron,
        HEADS: config.ledger.heads_cron,
        REPORTS: config.reports.cron,
    }
    return {name: line for name, line in lines.items() if line}


def next_starts(config: Config, count: int) -> dict[str, list[str]]:
    """The next starts of each job, from now, without jitter."""
    zone = ZoneInfo(config.schedule.timezone)
    starts_by_job: dict[str, list[str]] = {}
    for name, line in job_lines(config).items():
        trigger, at = cron_trigger(line, zone), datetime.now(UTC)
        starts: list[str] = []
        for _ in range(count):
            start = trigger.get_next_fire_time(None, at)
            if start is None:
                break
            starts.append(_text(start))
            at = start + timedelta(microseconds=1)
        starts_by_job[name] = starts
    return starts_by_job


def first_start(
    saved: JobState | None, cron: str, trigger: CronTrigger, now: datetime, *, still_running: bool
) -> datetime | None:
    """The first start of a new scheduler; it may lie in the past.

    An interrupted run is due again, unless its process is still running. Otherwise the planned
    start holds, also if it has passed, but not later than the next start from now: the clock may
    have been ahead. With another cron line the plan starts from now.
    """
    from_now = _start(trigger, now)
    if saved is None or saved.cron != cron or from_now is None:
        return from_now
    if saved.running is not None and not still_running:
        return min(now, datetime.fromisoformat(saved.due or saved.next))
    return min(from_now, datetime.fromisoformat(saved.next))


_LOG = logging.getLogger("margincast.schedule")


class Scheduler:
    """Runs the configured jobs.

    Parameters
    ----------
    config:
        Sections schedule, serving (for the folder) and notify.
    file:
        Configuration file of the jobs; None for the defaults.
    command:
        Builds the command of a job; None for the verbs of margincast.

    Raises
    ------
    ConfigError
        No job has a cron line, or one never starts.
    """

    def __init__(self, config: Config, file: Path | None, command: Command | None = None) -> None:
        self._config = config
        self._lines = job_lines(config)
        if not self._lines:
            raise ConfigError(
                "[schedule] cron and drift_cron are both empty, [ledger] heads_cron and [reports] "
                "cron too; give at least one a cron line"
            )
        self._file = file
        self._command = command or _verbs(file)
        self._folder = config.serving.bundles.parent / FOLDER
        zone, jitter = ZoneInfo(config.schedule.timezone), config.schedule.jitter
        self._triggers = {
            name: cron_trigger(line, zone, jitter) for name, line in self._lines.items()
        }
        self._stopping = threading.Event()
        self._child_lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def run_until_stopped(self) -> dict[str, Any]:
        """Run jobs until SIGTERM or SIGINT; a current run is then ended and repeated later.

        Raises
        ------
        BusyError
            Another scheduler uses this folder.
        """
        with exclusive(self._folder / "schedule.lock", "scheduler"):
            state = self._state()
            starts = self._plan(state)
            self._on_signals()
            clock = self._clock(state, starts)
            clock.start()
            for name, start in starts.items():
                _LOG.info("%s: %r, next start %s", name, self._lines[name], _text(start))
            self._stopping.wait()
            self._end_children()
            clock.shutdown(wait=True)
        return state.to_dict()

    def run_due(self) -> dict[str, Any]:
        """Run each job that is due and within its grace once, and plan its next start.

        ``ran`` in the report lists the jobs that ran.
        """
        with exclusive(self._folder / "schedule.lock", "scheduler"):
            state = self._state()
            self._on_signals()
            ran: list[str] = []
            for name, start in self._plan(state).items():
                now = datetime.now(UTC)
                if start > now or self._stopping.is_set():
                    continue
                following = _start(self._triggers[name], now + timedelta(microseconds=1))
                if following is None:
                    raise _never(name, self._lines[name])
                state.change(name, next=_text(following), due=_text(start))
                if now - _last_due(self._triggers[name], start, now) <= self._grace:
                    worker = threading.Thread(target=self._run, args=(state, name))
                    worker.start()
                    while worker.is_alive() and not self._stopping.is_set():
                        worker.join(0.5)
                    self._end_children()
                    worker.join()
                    ran.append(name)
                else:
                    state.count(name, "missed")
                    _LOG.warning(
                        "%s: the start of %s is past its grace and dropped", name, _text(start)
                    )
        return {**state.to_dict(), "ran": ran}

    @property
    def _grace(self) -> timedelta:
        return timedelta(seconds=self._config.schedule.misfire_grace)

    def _state(self) -> ScheduleState:
        return ScheduleState(self._folder / "state.json")

    def _plan(self, state: ScheduleState) -> dict[str, datetime]:
        """First start of every job, saved before any job runs."""
        starts: dict[str, datetime] = {}
        state.keep_only(set(self._lines))
        for name, line in self._lines.items():
            cron = f"{line} {self._config.schedule.timezone}"
            saved = state.get(name)
            running = name == "retrain" and is_held(self._config.serving.bundles / RETRAIN_LOCK)
            start = first_start(
                saved, cron, self._triggers[name], datetime.now(UTC), still_running=running
            )
            if start is None:
                raise _never(name, line)
            if saved is not None and saved.running is not None:
                status = "is still running" if running else "was interrupted and is due again"
                _LOG.warning("%s: the run of %s %s", name, saved.running, status)
            planned = saved or JobState(cron=cron, next=_text(start))
            state.put(
                name,
                replace(planned, cron=cron, next=_text(start), due=None, running=None, pid=None),
            )
            starts[name] = start
        return starts

    def _clock(self, state: ScheduleState, starts: dict[str, datetime]) -> BackgroundScheduler:
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        clock = BackgroundScheduler(
            timezone=UTC, executors={"default": ThreadPoolExecutor(len(starts))}
        )

        def on_event(event: JobEvent) -> None:
            job = clock.get_job(event.job_id)
            if event.code == EVENT_JOB_MISSED:
                state.count(event.job_id, "missed")
                _LOG.warning("%s: a start is past its grace and dropped", event.job_id)
                return
            if event.code == EVENT_JOB_MAX_INSTANCES:
                state.count(event.job_id, "skipped")
                _LOG.warning(
                    "%s: the previous run is still going, this start is skipped", event.job_id
                )
            else:
                state.change(event.job_id, due=_text(event.scheduled_run_times[-1]))
            if job is not None:
                state.change(event.job_id, next=_text(job.next_run_time))

        clock.add_listener(
            on_event, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED
        )
        for name, start in starts.items():
            clock.add_job(
                self._run,
                self._triggers[name],
                args=(state, name),
                id=name,
                next_run_time=start,
                misfire_grace_time=self._config.schedule.misfire_grace,
                coalesce=self._config.schedule.coalesce,
                max_instances=1,
            )
        return clock

    def _run(self, state: ScheduleState, name: str) -> None:
        """Run a job, from its state on disk to its verdict."""
        started = _now()
        report = self._folder / f"{name}.json"
        report.unlink(missing_ok=True)
        state.change(name, running=started)
        with self._child_lock:
            if self._stopping.is_set():
                return  # due again, like an interrupted run
            child = subprocess.Popen(
                self._command(name, report), stdin=subprocess.DEVNULL, start_new_session=True
            )
            self._children[name] = child
        state.change(name, pid=child.pid)
        code = child.wait()
        with self._child_lock:
            self._children.pop(name, None)
            if self._stopping.is_set() and code < 0:
                return  # the state still has it as running: interrupted
        self._finish(state, name, started, code, report)

    def _finish(
        self, state: ScheduleState, name: str, started: str, code: int, report: Path
    ) -> None:
        content = _read(report)
        has_verdict = code in VERDICT_CODES
        verdict = content.get("verdict") if has_verdict else "failed"
        saved = state.get(name)
        due = (saved and saved.due) or started
        last = Finished(due, started, _now(), code, verdict, content.get("bundle"))
        state.change(name, due=None, running=None, pid=None, last=last)
        _LOG.info("%s: exit %d, %s", name, code, verdict or "no verdict")
        end = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        reason = None if has_verdict else f"the process of {name} {end} and gave no verdict"
        if code == FAILED:
            reason = self._config_error()
        if reason is not None:
            send(self._config, message(name, {"verdict": "failed", "reasons": [reason]}))

    def _config_error(self) -> str | None:
        """Why a job cannot read its settings, and so sent no notification; None if it can."""
        if self._file is None:
            return None
        try:
            load_config(self._file)
        except ConfigError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _on_signals(self) -> None:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def _end_children(self) -> None:
        with self._child_lock:
            children = list(self._children.values())
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _verbs(file: Path | None) -> Command:
    config = [] if file is None else ["--config", str(file)]

    def command(job: str, report: Path) -> list[str]:
        # -P: never import from the current folder.
        start = [sys.executable, "-P", "-m", "margincast"]
        return [*start, *_WORDS.get(job, (job,)), "--json", str(report), *config]

    return command


def _last_due(trigger: CronTrigger, start: datetime, now: datetime) -> datetime:
    """The newest start from a known one up to now."""
    due = start
    while True:
        following = _start(trigger, due + timedelta(microseconds=1))
        if following is None or following > now:
            return due
        due = following


def _start(trigger: CronTrigger, after: datetime) -> datetime | None:
    start: datetime | None = trigger.get_next_fire_time(None, after)
    return start


def _never(name: str, line: str) -> ConfigError:
    return ConfigError(f"the cron line {line!r} of {name} names no day that exists; correct it")


def _read(report: Path) -> dict[str, Any]:
    try:
        content = json.loads(report.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _now() -> str:
    return _text(datetime.now(UTC))
