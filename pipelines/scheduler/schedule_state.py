"""What a scheduler must remember across restarts, as one JSON file that is whole at every moment.

APScheduler's own stores keep jobs as pickles, which nothing here may load. The jobs are made anew
from the configuration at every start; only times and results need to last.
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
    """A run that ended: when it was due, how it went."""

    due: str
    started: str
    ended: str
    exit: int
    verdict: str | None = None
    bundle: str | None = None


class JobState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One job.

    Attributes
    ----------
    cron:
        The line and time zone that `next` was worked out with.
    next:
        Next start that is planned.
    due:
        The start that `running` stands for, once it is under way.
    running:
        When the present run began; a state that is read with this set was cut off in it.
    pid:
        Process of the present run.
    last:
        The newest run that ended.
    missed, skipped:
        Starts given up for being later than the grace, and for a run still going.
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
    """The states of all jobs, each change on disk before the next step.

    Raises
    ------
    ConfigError
        The file is there and damaged.
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
                f"schedule state {path} is unsound ({error}); remove it to start afresh: a missed "
                "start is then not made up for"
            ) from error
        self._jobs = dict(file.jobs)

    def get(self, job: str) -> JobState | None:
        """The state of a job; None if it never was scheduled."""
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
        """One more ``missed`` or ``skipped``."""
        with self._lock:
            before = self._jobs[job]
            self._jobs[job] = msgspec.structs.replace(before, **{field: getattr(before, field) + 1})
            self._write()

    def keep_only(self, jobs: set[str]) -> None:
        """Forget jobs that are configured no more."""
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
