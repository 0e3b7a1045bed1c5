"""A line that says why a verb takes a minute at its first use: it compiles kernels."""

from __future__ import annotations

import os
import time
from pathlib import Path

from numba.core import event

from pipelines.cli.progress import SHORT_SECONDS, is_quiet, progress_line

_LATER = "later runs use them, and margincast warm-up compiles all of them ahead"


class CompilationNotice(event.Listener):
    """Prints one line when kernels have been compiled for `SHORT_SECONDS` in this process.

    numba reports a compilation only where the kernel cache lacks the kernel
    (`market.core.kernel_cache`), so with compiled kernels nothing is printed.
    """

    def __init__(self) -> None:
        folder = Path(os.environ["NUMBA_CACHE_DIR"])
        self._first_use = next(folder.rglob("*.nbc"), None) is None
        self._depth = 0  # a kernel compiles those that it calls
        self._start = self._seconds = 0.0
        self._printed = False

    def on_start(self, event: object) -> None:
        if self._depth == 0:
            self._start = time.monotonic()
        self._depth += 1
        self._print_once(time.monotonic() - self._start)

    def on_end(self, event: object) -> None:
        self._depth -= 1
        elapsed = time.monotonic() - self._start
        self._print_once(elapsed)
        if self._depth == 0:
            self._seconds += elapsed

    def _print_once(self, elapsed: float) -> None:
        if self._printed or self._seconds + elapsed < SHORT_SECONDS or is_quiet():
            return
        self._printed = True
        duration = ", about a minute" if self._first_use else ""
        progress_line(f"compiling kernels once{duration}; {_LATER}")


_registered: list[CompilationNotice] = []


def announce_compilation() -> None:
    """Print a `CompilationNotice` in this process where one is due."""
    if not _registered:
        _registered.append(CompilationNotice())
        event.register("numba:compile", _registered[0])  # type: ignore[no-untyped-call]
