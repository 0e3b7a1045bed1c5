"""Lines of the log on their way to stderr: written by a thread, so that no request waits for them.

A line waits in memory for some milliseconds and goes out with others. Where stderr does not take
them as fast as they come, the newest lines are dropped and counted; those of errors have room of
their own. Every write ends at the end of a line and is no longer than what a pipe takes as a whole,
so lines of several processes do not tear each other.

Reference: POSIX.1-2017, write: "Write requests of {PIPE_BUF} bytes or less shall not be interleaved
with data from other processes".
"""

from __future__ import annotations

import atexit
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

MOST_LINES = 50_000
"""Lines that may wait; beyond that those of requests are dropped."""

MORE_LINES = 2_000
"""Further lines that may wait if they are not of requests."""

MOST_BYTES = select.PIPE_BUF
"""Longest line with its end, and longest write."""

PAUSE_SECONDS = 0.02
"""Lines of requests wait so long for others."""

STOP_SECONDS = 2.0
"""The end of the process waits so long for lines to be written."""

Write = Callable[[bytes], None]


class Line(Protocol):
    """A line that is formatted when it is written."""

    def encode(self) -> bytes:
        """The line without its end, in UTF-8."""


def write_stderr(data: bytes) -> None:
    """Write to what stderr is now."""
    sys.stderr.write(data.decode())
    sys.stderr.flush()


class LineWriter:
    """Writes lines in a thread of its own.

    Parameters
    ----------
    write:
        Writes some whole lines.
    """

    def __init__(self, write: Write = write_stderr) -> None:
        self._write = write
        self._lines: deque[bytes | Line] = deque()
        self._wake = threading.Event()
        self._idle = True
        self._closed = False
        self._lock = threading.Lock()
        self._dropped = 0
        self._on_drop: Callable[[int], object] | None = None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def on_drop(self, count: Callable[[int], object]) -> None:
        """Have dropped lines counted; `count` gets how many were dropped since the last time."""
        self._on_drop = count

    def put(self, line: bytes | Line, *, of_request: bool = False) -> None:
        """Take a line; returns at once."""
        most = MOST_LINES if of_request else MOST_LINES + MORE_LINES
        if self._closed or len(self._lines) >= most:
            with self._lock:
                self._dropped += 1
            return
        self._lines.append(line)
        if self._idle:
            self._idle = False
            self._wake.set()

    def flush(self) -> None:
        """Wait until what waits is written, at most `STOP_SECONDS`."""
        until = time.monotonic() + STOP_SECONDS
        while (self._lines or not self._idle) and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS / 4.0)

    def close(self) -> None:
        """Write what waits, as far as `STOP_SECONDS` suffice, and end the thread."""
        self._closed = True
        self._wake.set()
        self._thread.join(STOP_SECONDS)
        atexit.unregister(self.close)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            if not self._closed:
                time.sleep(PAUSE_SECONDS)
            self._drain()
            self._count_drops()
            self._idle = True
            if self._lines:  # one that came before this thread counted as idle woke nobody
                self._wake.set()
        self._drain()
        self._count_drops()

    def _drain(self) -> None:
        """Write all that waits, in parts."""
        part = bytearray()
        while self._lines:
            line = self._lines.popleft()
            try:
                encoded = (line if isinstance(line, bytes) else line.encode()) + b"\n"
            except Exception:  # noqa: BLE001 - the thread must go on, and the log is no place for it
                with self._lock:
                    self._dropped += 1
                continue
            if len(part) + len(encoded) > MOST_BYTES:
                self._send(part)
                part = bytearray()
            part += encoded
        if part:
            self._send(part)

    def _send(self, part: bytearray) -> None:
        try:
            self._write(bytes(part))
        except (OSError, ValueError):  # stderr is closed or full: nobody can be told
            with self._lock:
                self._dropped += part.count(b"\n")

    def _count_drops(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped and self._on_drop is not None:
            try:
                self._on_drop(dropped)
            except Exception:  # noqa: BLE001 - as above; they are counted the next time
                with self._lock:
                    self._dropped += dropped
