"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_SECONDS = 120.0
"""What takes longer hangs; this is no measure of speed, as machines are shared and busy."""


def wait_for(holds: Callable[[], object], what: str = "it does not come to hold") -> None:
    """Return once something holds; fail with `what` where it does not within `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
