"""One job at a time: a lock that dies with its process.

The lock is the kernel's (`flock`), not the file: whoever dies, by whatever signal, holds it no
more, and the file that stays behind means nothing. The file is never removed, since between an
unlink and the next open two processes could each hold "the" lock. What stands in it tells a person
who has it. On a network file system locks may not reach other machines: keep the folder local, or
run the job on one machine only.

Reference: Linux manual pages, flock(2).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time_ns
from typing import IO

from market.core.clock import SECOND, format_time
from market.core.errors import BusyError

RETRAIN_LOCK = "retrain.lock"
"""Lock file of the retraining, beside the bundles."""


@contextmanager
def exclusive(path: Path, job: str) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when the process ends, however it ends.

    Raises
    ------
    BusyError
        Another process holds it; the message names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never truncated on opening: whoever waits must not wipe the holder's name.
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another {job} is running ({_holder(file)}, lock {path}); wait for it to end"
            ) from None
        _sign(file)
        try:
            yield
        finally:
            # Left with no name, so that a freed lock names nobody.
            with suppress(OSError):
                file.truncate(0)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at this moment."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    started = format_time(time_ns() // SECOND * SECOND)
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": started}, file)
    file.flush()


def _holder(file: IO[str]) -> str:
    """Who holds it, as far as the file says: it is for people, the lock does not rest on it."""
    file.seek(0)
    try:
        said = json.loads(file.read(1024))
        return f"process {int(said['pid'])} on {said['host']} since {said['since']}"
    except (ValueError, KeyError, TypeError):
        return "by a process that left no name"
