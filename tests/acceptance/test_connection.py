"""A connection that stays open: no call waits for an acknowledgement of the one before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any


def test_calls_on_one_connection_do_not_wait_for_delayed_acknowledgements(
    start: Callable[..., Endpoint],
) -> None:
    """Without TCP_NODELAY each call after the first few takes 40 ms more, whatever it does."""
    endpoint = start()
    seconds = []
    for _ in range(40):
        before = time.perf_counter()
        endpoint.get("/v1/ruleset")
        seconds.append(time.perf_counter() - before)
    assert min(seconds[10:]) < 0.03, seconds
