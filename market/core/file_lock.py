"""A lock of the operating system on a file, waited for at most so long."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from market.core.errors import BusyError


@contextmanager
def exclusive_lock(path: str, wait_seconds: float) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs.

    Between processes and between threads of one process; who waits is woken and does not poll. A
    wait that was given up keeps its place for the next one of this process, so however many waits
    end in an error, no more threads and descriptors stay than waited at the same time.

    Parameters
    ----------
    path:
        The file; made if it is missing, and left as it is.
    wait_seconds:
        Longest wait for whoever holds it.

    Raises
    ------
    BusyError
        It is held for longer.
    OSError
        The file cannot be opened or locked.
    """
    # Opened anew: threads of one process exclude each other as well.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    held = _take(file, wait_seconds)
    if held is None:
        raise BusyError(
            f"another process held the lock {path!r} for over {wait_seconds:g} s; look for one "
            "that hangs"
        )
    try:
        yield
    finally:
        os.close(held)  # which gives the lock back


def _take(file: int, wait_seconds: float) -> int | None:
    """The descriptor that holds the lock of an open file; None after the wait, then it is closed,
    or will be."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Waiter.of(file).wait(wait_seconds)
    except BaseException:
        os.close(file)
        raise
    return file


_Inode = tuple[int, int]


class _Waiter:
    """Waits for a lock in a thread: the system has no wait that ends after a time."""

    _guard = threading.Lock()
    """Held while any waiter is given up, taken over or gets its lock."""
    _given_up: ClassVar[dict[_Inode, list[_Waiter]]] = {}
    """By file, waits that were given up and still hold their place; the oldest first."""

    def __init__(self, file: int, inode: _Inode) -> None:
        self._file, self._inode = file, inode
        self._ended = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._lock, name="file-lock", daemon=True)

    @classmethod
    def of(cls, file: int) -> _Waiter:
        """One that waits for the lock of an open file, which it closes in time."""
        try:
            status = os.fstat(file)
            inode = status.st_dev, status.st_ino
            with cls._guard:
                waiting = cls._given_up.pop(inode, [])
                taken_over = waiting.pop(0) if waiting else None
                if waiting:
                    cls._given_up[inode] = waiting
            if taken_over is None:
                waiter = cls(file, inode)
                waiter._thread.start()
                return waiter
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return taken_over

    def wait(self, seconds: float) -> int | None:
        """The descriptor that holds the lock, within so many seconds; else None."""
        try:
            self._ended.wait(seconds)
        except BaseException:  # an interrupt: the lock would never be released
            if self._give_up() is not None:
                os.close(self._file)
            raise
        return self._give_up()

    def _give_up(self) -> int | None:
        """The descriptor where the lock is held by now; else it is given back once it is."""
        with self._guard:
            if not self._ended.is_set():
                self._given_up.setdefault(self._inode, []).append(self)
                return None
        if self._error is not None:
            raise self._error
        return self._file

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        with self._guard:
            self._ended.set()
            waiting = self._given_up.get(self._inode, [])
            awaited = self not in waiting
            if not awaited:
                waiting.remove(self)
                if not waiting:
                    del self._given_up[self._inode]
        if not awaited or self._error is not None:
            os.close(self._file)
