"""Loaded by Python at its start where this folder is on the path: a wall clock that can be moved.

The file named by ``SHIFTED_CLOCK`` holds the seconds by which the wall clock is ahead. The
monotonic clock is left alone, as by an operator or an NTP daemon that steps the time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_FILE = Path(os.environ["SHIFTED_CLOCK"])
_time, _time_ns = time.time, time.time_ns


def _ahead() -> float:
    try:
        return float(_FILE.read_text("utf-8"))
    except (OSError, ValueError):
        return 0.0


time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + round(_ahead() * 1e9)
