"""Work in a thread that runs from entering a block to leaving it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class BackgroundThread(ABC):
    """A thread that runs while its `with` block is entered; the block can be entered again.

    Parameters
    ----------
    name:
        Name of the thread.
    stop_seconds:
        How long leaving the block waits for the thread to end; it is a daemon, so one that hangs
        does not hold the end of the process.
    """

    def __init__(self, name: str, stop_seconds: float) -> None:
        self._name, self._stop_seconds = name, stop_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._stop_seconds)

    @abstractmethod
    def _run(self) -> None:
        """Work until `_stop` is set."""
