"""Progress of a long job on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.cli.settings import log_as_json

SHORT_SECONDS = 2.0
"""A job that ends sooner prints no line."""

LINE_SECONDS = 20.0
"""Time between two lines of one stage."""


def is_quiet() -> bool:
    """Whether no progress is wanted: ``--quiet``, or ``[logging] level = "error"``."""
    level = logging.getLogger("margincast").getEffectiveLevel()
    return bool(os.environ.get("MARGINCAST_QUIET")) or level >= logging.ERROR


def progress_line(text: str) -> None:
    """Write a line on stderr, or log it where the log is JSON."""
    if not log_as_json(text, logging.INFO):
        sys.stderr.write(f"progress: {text}\n")
        sys.stderr.flush()


class Stages:
    """Named stages of a job, timed.

    Without a terminal, or with ``NO_COLOR``, a line says which stage begins and, every
    `LINE_SECONDS`, how far the job is. Nothing is printed with ``--quiet`` or with
    ``[logging] level = "error"``.

    Attributes
    ----------
    seconds:
        Time spent in each stage so far.
    """

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        # Not console.is_terminal: FORCE_COLOR would draw a bar into a file.
        terminal = sys.stderr.isatty() and not (console.is_dumb_terminal or console.no_color)
        self.seconds: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=is_quiet() or not terminal,
        )
        self._task = self._progress.add_task("start", total=total)
        self._lines = None if is_quiet() or terminal else _Lines(total)

    def __enter__(self) -> Stages:
        self._progress.start()
        if self._lines is not None:
            self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._lines is not None:
            self._lines.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        self._progress.update(self._task, description=name)
        if self._lines is not None:
            self._lines.enter(name, len(self.seconds))
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
            self._progress.advance(self._task)

    def within(self, share: float) -> None:
        """Show the progress of the current stage, from 0 to 1."""
        self._progress.update(self._task, completed=len(self.seconds) + share)
        if self._lines is not None:
            self._lines.done = len(self.seconds) + share


class _Lines:
    """Lines of one job, written by a thread of their own while the job computes."""

    def __init__(self, total: int) -> None:
        self.done = 0.0
        self._total = total
        self._name = "start"
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def enter(self, name: str, done: int) -> None:
        self._name, self.done = name, float(done)
        if time.monotonic() - self._start >= SHORT_SECONDS:
            self._print()

    def _run(self) -> None:
        wait = SHORT_SECONDS
        while not self._ended.wait(wait):
            self._print()
            wait = LINE_SECONDS

    def _print(self) -> None:
        elapsed = time.monotonic() - self._start
        number = min(int(self.done) + 1, self._total)
        text = (
            f"{self._name} (stage {number} of {self._total}), {self.done / self._total:.0%} of the "
            f"stages, {elapsed:.0f} s"
        )
        with self._lock:
            progress_line(text)
