"""How late a ledger's calls were processed after their deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from enforcement.calls.event_log import CALL
from enforcement.record.rows import CHAIN
from ledger.chain import to_record
from ledger.records import Record
from ledger.schema import records
from ledger.store import Ledger
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import DataError

TIMED = frozenset({"deadline_missed", "grace_ended"})
"""Events that time alone causes."""

_PAGE = 1_000


def longest_delay(path: Path) -> float:
    """Longest time from a deadline to the step that processed it, hours; 0 without any.

    The largest ``max(0, t - d) / 1 h`` over the events `TIMED` of calls: t is the time of the
    event's step, d the ``deadline`` of the newest event of the same call of an earlier time. It
    says when time alone was to change the state: at the earliest deadline of the call's types, or,
    once that is missed, at the end of the grace. The event itself has the deadline that is left
    after its step: none, once the account is liquidated. Where a deadline and the end of the grace
    are processed in one step, both count from the deadline, the earlier of the two. A call that
    misses its deadline in the step that opens it counts as processed in time, and so does one whose
    deadline was moved to an earlier time in the step that missed it.

    Parameters
    ----------
    path:
        An SQLite ledger.

    Raises
    ------
    DataError
        The event before one of these names no deadline.
    LedgerError
        A record cannot be read, or does not match its hash.
    """
    longest = 0
    newest: dict[str, tuple[int, str | None]] = {}
    """Time and deadline of the newest event of each call."""
    earlier: dict[str, str | None] = {}
    """Deadline of the newest event of an earlier time of each call."""
    for record in _call_events(path):
        payload, time = record.payload, record.as_of or 0
        call = str(payload["call_id"])
        if call in newest and newest[call][0] < time:
            earlier[call] = newest[call][1]
        newest[call] = time, payload["deadline"]
        if payload["event"] in TIMED and call in earlier:
            due = earlier[call]
            if due is None:
                raise DataError(
                    f"{record.id} is {payload['event']} at {format_time(time)}, and the event "
                    "before it names no deadline; expected the time at which it was due"
                )
            longest = max(longest, time - parse_time(due))
    return longest / HOUR


def _call_events(path: Path) -> Iterator[Record]:
    """Records of calls in the order in which they happened."""
    query = select(records).where(records.c.chain == CHAIN, records.c.kind == CALL)
    with Ledger(f"sqlite:///{path}") as ledger, ledger.engine.connect() as connection:
        paged = connection.execution_options(yield_per=_PAGE)
        yield from map(to_record, paged.execute(query.order_by(records.c.seq)))
