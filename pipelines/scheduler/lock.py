"""One job at a time: a lock file that the operating system releases with its process.

The kernel holds the lock: it is released when the process ends, by whatever signal, and a file
that is left over locks nothing. The text in the file names the process for people. On a network
file system locks may not reach other machines: keep the folder local, or run the job on one
machine only.

Reference: filelock documentation, ``FileLock``; Linux manual pages, flock(2).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time_ns

from filelock import FileLock, Timeout

from market.core.clock import SECOND, format_time
from market.core.errors import BusyError

RETRAIN_LOCK = "retrain.lock"
"""Lock file of the retraining, beside the bundles."""


@contextmanager
def exclusive(path: Path, job: str) -> Iterator[None]:
    """Hold a lock file.

    Raises
    ------
    BusyError
        Another process holds it; the message names that process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"another {job} is running ({_holder(path)}, lock {path}); wait for it to end"
        ) from None
    started = format_time(time_ns() // SECOND * SECOND)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": started}
    try:
        path.write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # a free lock names no process
            os.truncate(path, 0)
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at this moment."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _holder(path: Path) -> str:
    """The process that the file names."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(holder['pid'])} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by a process that left no name"
