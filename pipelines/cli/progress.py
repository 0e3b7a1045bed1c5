"""Progress of a long job: a bar on a terminal, no output elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Stages:
    """Named stages of a job, timed.

    Attributes
    ----------
    seconds:
        Time spent in each stage so far.
    """

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self.seconds: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("start", total=total)

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        self._progress.update(self._task, description=name)
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
