"""The delay of deadlines, on records whose delays are counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.enforcement.deadline_delays import longest_delay
from enforcement.record.rows import CHAIN
from ledger.following import SharedChain
from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import DataError

BEGIN = parse_time("2025-04-01T00:00:00Z")

Event = tuple[str, str, float, float | None]
"""Call, event, its hour, and the hour of the deadline after it."""

LIQUIDATED_AT_ONCE: list[Event] = [
    ("a", "opened", 0, 4.5),
    ("a", "deadline_missed", 5, None),
    ("a", "grace_ended", 5, None),
]
IN_TIME: list[Event] = [
    ("a", "opened", 0, 5),
    ("b", "opened", 1, 24),
    ("b", "disputed", 3, 24),
    ("a", "deadline_missed", 5, 8),
    ("b", "dispute_resolved", 6, 27),
    ("a", "grace_ended", 8, None),
    ("b", "deadline_moved", 10, 12),
    ("b", "deadline_missed", 12, None),
]
MANY_EVENTS: list[Event] = [
    ("c", "opened", 0, 4),
    *(("c", "raised", hour / 10, 4 + hour) for hour in range(1, 12)),
    ("c", "deadline_missed", 15.25, None),
]
GRACE_ENDED_LATE: list[Event] = [
    *IN_TIME[:4],
    ("a", "credited", 6, 8),
    ("a", "grace_ended", 9.5, None),
]
OPENED_LATE: list[Event] = [("a", "opened", 5, None), ("a", "deadline_missed", 5, None)]
LATE_TWICE: list[Event] = [*IN_TIME[:-1], ("b", "deadline_missed", 14, None), *MANY_EVENTS]


def ledger_of(events: list[Event], folder: Path) -> Path:
    entries, numbers = [], dict.fromkeys("abc", 0)
    for call, event, hour, deadline in events:
        numbers[call] += 1
        due = None if deadline is None else format_time(BEGIN + round(deadline * HOUR))
        # As the engine records them: types have no deadlines any more once time alone does nothing.
        deadlines = {} if due is None else {"maintenance_margin": due}
        payload = {"event": event, "call_id": call, "deadline": due, "deadlines": deadlines}
        time = BEGIN + round(hour * HOUR)
        entries.append(Entry("call", payload, f"{call}-{numbers[call]}", call, time))
    path = folder / "ledger.db"
    with Ledger(f"sqlite:///{path}") as ledger:
        chain = SharedChain(ledger, CHAIN)
        chain.append(chain.head(), entries)
    return path


@pytest.mark.parametrize(
    ("events", "hours"),
    [
        (LIQUIDATED_AT_ONCE, 0.5),
        (IN_TIME, 0.0),
        (MANY_EVENTS, 0.25),
        (OPENED_LATE, 0.0),
        (GRACE_ENDED_LATE, 1.5),
        (LATE_TWICE, 2.0),
        ([], 0.0),
    ],
)
def test_a_delay_is_counted_from_the_deadline_of_the_event_before(
    events: list[Event], hours: float, tmp_path: Path
) -> None:
    assert longest_delay(ledger_of(events, tmp_path)) == hours


def test_a_deadline_that_nothing_names_is_an_error(tmp_path: Path) -> None:
    path = ledger_of([("a", "opened", 0, None), ("a", "deadline_missed", 5, None)], tmp_path)
    with pytest.raises(DataError, match="names no deadline"):
        longest_delay(path)
