"""State of a scheduler across restarts, in one JSON file that is replaced atomically.

APScheduler's job stores use pickles, which this project never loads. Jobs are rebuilt from the
configuration at every start; only times and results are saved.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec

from market.core.errors import ConfigError
from market.core.files import replace_file

_FORMAT = 1
_MAX_BYTES = 2**20


class Finished(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finished run: when it was due, its times and its result."""

    due: str
    started: str
    ended: str
    exit: int
    verdict: str | None = None
    bundle: str | None = None


class JobState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State of a job.

    Attributes
    ----------
    cron:
        Line and time zone from which `next` was computed.
    next:
        Next planned start.
    due:
        Planned start of the current run.
    running:
        When the current run started; if set at a restart, that run was interrupted.
    pid:
        Process of the current run.
    last:
        The newest finished run.
    missed, skipped:
        Starts dropped because they were past their grace, or because a run was still going.
    """

    cron: str
    next: str
    due: str | None = None
    running: str | None = None
    pid: int | None = None
    last: Finished | None = None
    missed: int = 0
    skipped: int = 0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    jobs: dict[str, JobState]


class ScheduleState:
    """The states of all jobs; every change is written at once.

    Raises
    ------
    ConfigError
        The file exists and is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._jobs: dict[str, JobState] = {}
        try:
            encoded = path.read_bytes()
        except FileNotFoundError:
            return
        try:
            if len(encoded) > _MAX_BYTES:
                raise ValueError(f"over {_MAX_BYTES} bytes")
            file = msgspec.json.decode(encoded, type=_File)
            if file.format != _FORMAT:
                raise ValueError(f"format {file.format}, this version reads {_FORMAT}")
        except (msgspec.MsgspecError, ValueError) as error:
            raise ConfigError(
                f"schedule state {path} is invalid ({error}); remove it to reset it: a missed "
                "start is then not repeated"
            ) from error
        self._jobs = dict(file.jobs)

    def get(self, job: str) -> JobState | None:
        """The state of a job; None if it was never scheduled."""
        return self._jobs.get(job)

    def put(self, job: str, state: JobState) -> None:
        """Set the state of a job."""
        with self._lock:
            self._jobs[job] = state
            self._write()

    def change(self, job: str, **changes: Any) -> None:
        """Change some fields of a job that has a state."""
        with self._lock:
            self._jobs[job] = msgspec.structs.replace(self._jobs[job], **changes)
            self._write()

    def count(self, job: str, field: str) -> None:
        """Increment ``missed`` or ``skipped``."""
        with self._lock:
            state = self._jobs[job]
            self._jobs[job] = msgspec.structs.replace(state, **{field: getattr(state, field) + 1})
            self._write()

    def keep_only(self, jobs: set[str]) -> None:
        """Drop jobs that are not configured any more."""
        with self._lock:
            self._jobs = {name: state for name, state in self._jobs.items() if name in jobs}
            self._write()

    def to_dict(self) -> dict[str, Any]:
        """Plain form for reports."""
        jobs: dict[str, Any] = msgspec.to_builtins(self._jobs)
        return {"jobs": jobs}

    def _write(self) -> None:
        encoded = msgspec.json.encode(_File(_FORMAT, self._jobs))
        replace_file(self.path, msgspec.json.format(encoded, indent=2) + b"\n")
