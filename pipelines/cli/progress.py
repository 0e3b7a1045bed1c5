"""Progress of a long job: a bar on a terminal, nothing elsewhere."""

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
        """One stage."""
        self._progress.update(self._task, description=name)
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            self._progress.advance(self._task)

    def within(self, share: float) -> None:
        """How far the present stage is, from 0 to 1."""
        self._progress.update(self._task, completed=len(self.seconds) + share)
