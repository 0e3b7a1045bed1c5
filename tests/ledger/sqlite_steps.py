"""How much SQLite does for something: the instructions that its virtual machine runs.

The same on every machine, however busy it is, and growing with every row that is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from ledger.store import Ledger


def count_steps(ledger: Ledger, work: Callable[[], object]) -> int:
    """Instructions that the connections of a ledger run during some work in this thread."""
    steps = 0
    watched: list[Any] = []

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, 1)
        watched.append(connection)

    event.listen(ledger.engine, "checkout", watch)
    try:
        work()
    finally:
        event.remove(ledger.engine, "checkout", watch)
        for connection in watched:
            connection.set_progress_handler(None, 1)
    return steps
