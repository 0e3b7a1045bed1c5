"""The scheduler: runs retraining and drift checks when [schedule] says so.

APScheduler tells the time; each run is a process of its own, so that its memory is given back and
its crash is only a failed run. What is planned and what is under way is on disk before it happens
(`pipelines.scheduler.schedule_state`): after a restart the start that was missed, or the run that
was cut off, is made up for once, within ``misfire_grace``. Retraining is idempotent, so a run too
many costs time and nothing else.

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

OWN_VERDICTS = frozenset({0, 1, 3, 5})
"""Exit codes with which a job has told of its verdict itself, if it could read its settings."""

FAILED = 1

_STOP_SECONDS = 10.0

Command = Callable[[str, Path], list[str]]
"""From the name of a job and the file of its report to an argument vector."""


def job_lines(config: Config) -> dict[str, str]:
    """The cron line of each job that has one."""
    lines = {"retrain": config.schedule.cron, "drift": config.schedule.drift_cron}
    return {name: line for name, line in lines.items() if line}


def next_starts(config: Config, count: int) -> dict[str, list[str]]:
    """The next starts of each job, from now, without jitter."""
    zone = ZoneInfo(config.schedule.timezone)
    found: dict[str, list[str]] = {}
    for name, line in job_lines(config).items():
        trigger, at = cron_trigger(line, zone), datetime.now(UTC)
        starts: list[str] = []
        for _ in range(count):
            start = trigger.get_next_fire_time(None, at)
            if start is None:
                break
            starts.append(_text(start))
            at = start + timedelta(microseconds=1)
        found[name] = starts
    return found


def first_start(
    saved: JobState | None, cron: str, trigger: CronTrigger, now: datetime, *, still_running: bool
) -> datetime | None:
    """The start that a new scheduler begins with; it may lie in the past.

    A run that was cut off is due again, unless its process still goes on. Else the start that was
    planned stands, also if it has passed meanwhile, but none later than the next one from now: a
    clock that ran ahead would put the job off. Another cron line begins afresh from now.
    """
    from_now = _start(trigger, now)
    if saved is None or saved.cron != cron or from_now is None:
        return from_now
    if saved.running is not None and not still_running:
        return min(now, datetime.fromisoformat(saved.due or saved.next))
    return min(from_now, datetime.fromisoformat(saved.next))


class Scheduler:
    """Runs the configured jobs.

    Parameters
    ----------
    config:
        Sections schedule, serving (for the folder) and notify.
    file:
        The configuration file that the jobs get; None for the defaults.
    command:
        How a job is started; None for this program's own verbs.

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
                "[schedule] cron and drift_cron are both empty; give at least one a cron line"
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
        """Run jobs until SIGTERM or SIGINT; a run under way is then ended and made up for later.

        Raises
        ------
        BusyError
            Another scheduler works on this folder.
        """
        with exclusive(self._folder / "schedule.lock", "scheduler"):
            state = self._state()
            starts = self._plan(state)
            self._on_signals()
            clock = self._clock(state, starts)
            clock.start()
            for name, start in starts.items():
                _log(f"{name}: {self._lines[name]!r}, next start {_text(start)}")
            self._stopping.wait()
            self._end_children()
            clock.shutdown(wait=True)
        return state.to_dict()

    def run_due(self) -> dict[str, Any]:
        """Run each job that is due by now and within its grace, once, and plan the next start.

        The report names the jobs that ran under ``ran``.
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
                    _log(f"{name}: the start of {_text(start)} is past its grace and given up")
        return {**state.to_dict(), "ran": ran}

    @property
    def _grace(self) -> timedelta:
        return timedelta(seconds=self._config.schedule.misfire_grace)

    def _state(self) -> ScheduleState:
        return ScheduleState(self._folder / "state.json")

    def _plan(self, state: ScheduleState) -> dict[str, datetime]:
        """First start of every job, written down before anything runs."""
        starts: dict[str, datetime] = {}
        state.keep_only(set(self._lines))
        for name, line in self._lines.items():
            cron = f"{line} {self._config.schedule.timezone}"
            saved = state.get(name)
            goes_on = name == "retrain" and is_held(self._config.serving.bundles / RETRAIN_LOCK)
            start = first_start(
                saved, cron, self._triggers[name], datetime.now(UTC), still_running=goes_on
            )
            if start is None:
                raise _never(name, line)
            if saved is not None and saved.running is not None:
                what = "still goes on by itself" if goes_on else "was cut off and is due again"
                _log(f"{name}: the run of {saved.running} {what}")
            kept = saved or JobState(cron=cron, next=_text(start))
            state.put(
                name,
                JobState(
                    cron=cron,
                    next=_text(start),
                    last=kept.last,
                    missed=kept.missed,
                    skipped=kept.skipped,
                ),
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
                _log(f"{event.job_id}: a start is past its grace and given up")
                return
            if event.code == EVENT_JOB_MAX_INSTANCES:
                state.count(event.job_id, "skipped")
                _log(f"{event.job_id}: the run before still goes on, this start is left out")
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
        """One run, from its first trace on disk to its verdict."""
        started = _now()
        report = self._folder / f"{name}.json"
        report.unlink(missing_ok=True)
        state.change(name, running=started)
        with self._child_lock:
            if self._stopping.is_set():
                return  # like a run that was cut off: due again
            child = subprocess.Popen(
                self._command(name, report), stdin=subprocess.DEVNULL, start_new_session=True
            )
            self._children[name] = child
        state.change(name, pid=child.pid)
        code = child.wait()
        with self._child_lock:
            self._children.pop(name, None)
            if self._stopping.is_set() and code < 0:
                return  # the state keeps that it was cut off
        self._finish(state, name, started, code, report)

    def _finish(
        self, state: ScheduleState, name: str, started: str, code: int, report: Path
    ) -> None:
        said = _read(report)
        own = code in OWN_VERDICTS
        verdict = said.get("verdict") if own else "failed"
        saved = state.get(name)
        due = (saved and saved.due) or started
        bundle = said.get("bundle")
        last = Finished(due, started, _now(), code, verdict, bundle)
        state.change(name, due=None, running=None, pid=None, last=last)
        _log(f"{name}: exit {code}, {verdict or 'no verdict'}")
        how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        reason = None if own else f"the process of {name} {how} and gave no verdict"
        if code == FAILED:
            reason = self._unsound_settings()
        if reason is not None:
            send(self._config, message(name, {"verdict": "failed", "reasons": [reason]}))

    def _unsound_settings(self) -> str | None:
        """Why a job cannot read its settings, and so could tell nobody; None where it can."""
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
        # -P: the folder the scheduler was started in is no place to import from.
        start = [sys.executable, "-P", "-c", "from pipelines.cli.main import main; main()"]
        return [*start, job, "--json", str(report), *config]

    return command


def _last_due(trigger: CronTrigger, start: datetime, now: datetime) -> datetime:
    """The newest start up to now, from a known one on."""
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
        said = json.loads(report.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _now() -> str:
    return _text(datetime.now(UTC))


def _log(text: str) -> None:
    sys.stderr.write(f"margincast: {text}\n")
    sys.stderr.flush()
