"""The outbox: rows of events that wait for a sink, in the order of each account.

The leader inserts rows in the transaction that records their events; one worker delivers them.
``status`` is pending, delivered, dead or skipped. ``next_attempt_at`` is when a pending row is due,
null while an earlier row of its account waits for the same sink, and of a delivered or skipped row
the time when it became that. So the index by status and time leads to the rows that can be sent,
however many wait behind others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)

from enforcement.delivery.sinks import SHOWN, Message
from enforcement.delivery.topics import Subscription, topic_of
from ledger.canonical import canonical_bytes
from ledger.packing import pack, unpack
from ledger.schema import lock, outbox

_LOCK = "outbox"
_UNDELIVERED = ("pending", "dead")
_PRUNED_AT_ONCE = 5_000

_EARLIER = outbox.alias("earlier")
# No IN: a list is not bound in a statement that is executed for many rows.
_WAITS = or_(_EARLIER.c.status == "pending", _EARLIER.c.status == "dead")
_BEHIND = exists().where(
    _EARLIER.c.sink == outbox.c.sink,
    _EARLIER.c.account_id == outbox.c.account_id,
    _WAITS,
    or_(
        _EARLIER.c.sequence < outbox.c.sequence,
        (_EARLIER.c.sequence == outbox.c.sequence) & (_EARLIER.c.event_id < outbox.c.event_id),
    ),
)
"""Whether an earlier row of the account waits for the same sink."""


def outbox_rows(
    events: Sequence[Mapping[str, Any]], sinks: Sequence[str | Subscription], created_at: int
) -> list[dict[str, Any]]:
    """Rows for the table ``outbox``, one for each event and each sink that wants it.

    Parameters
    ----------
    events:
        Payloads of records of kind ``call``, ``instruction`` or ``default_resources``, each with
        the id of its record as ``event_id``, with its ``account_id`` and ``sequence``. The body of
        a message is the event with its ``topic``, the kind of record.
    sinks:
        A name alone wants every event.
    created_at:
        By the clock of `time.time_ns`, whatever clock decides.

    Raises
    ------
    UnrecordableError
        An event has no canonical JSON, such as one with NaN.
    """
    wanted = [Subscription(sink) if isinstance(sink, str) else sink for sink in sinks]
    rows = []
    for event in events:
        topic = topic_of(event)
        takers = [sink for sink in wanted if sink.wants(topic, str(event.get("event", "")))]
        if not takers:
            continue
        body = pack(message_body(event))
        rows += [
            {
                "event_id": event["event_id"],
                "sink": taker.sink,
                "account_id": event["account_id"],
                "sequence": event["sequence"],
                "created_at": created_at,
                "body": body,
                "status": "pending",
                "attempts": 0,
                "next_attempt_at": 0,
                "detail": "",
            }
            for taker in takers
        ]
    return rows


def message_body(event: Mapping[str, Any]) -> bytes:
    """What is sent of an event: canonical JSON with its topic."""
    return canonical_bytes({**event, "topic": topic_of(event)})


@dataclass(frozen=True, slots=True)
class Due:
    """A row that can be sent.

    Attributes
    ----------
    sink:
        To which sink.
    message:
        What to send.
    attempts:
        How many attempts have failed so far.
    """

    sink: str
    message: Message
    attempts: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """What one attempt makes of a row.

    Attributes
    ----------
    due:
        The row as it was sent.
    status:
        pending (again later), delivered or dead.
    at:
        When it is due again, or when it was delivered or given up; nanoseconds.
    detail:
        For people.
    """

    due: Due
    status: Literal["pending", "delivered", "dead"]
    at: int
    detail: str


def read_due(
    connection: Connection, sink: str, now: int, limit: int
) -> tuple[list[Due], list[str]]:
    """Rows of a sink whose time has come, the longest due first.

    Returns
    -------
    Those that can be sent, at most one an account, and the ids of those that wait behind others:
    to be given to `put_behind`, so that they are not looked at again before their turn.
    """
    query = (
        select(outbox, case((_BEHIND, 1), else_=0).label("behind"))
        .where(outbox.c.status == "pending", outbox.c.next_attempt_at <= now)
        .where(outbox.c.sink == sink)
        .order_by(outbox.c.next_attempt_at)
        .limit(limit)
    )
    ready: list[Due] = []
    behind: list[str] = []
    for row in connection.execute(query):
        if row.behind:
            behind.append(row.event_id)
            continue
        message = Message(row.event_id, row.account_id, unpack(row.body))
        ready.append(Due(sink, message, row.attempts))
    return ready, behind


def put_behind(connection: Connection, sink: str, event_ids: Sequence[str]) -> None:
    """Take rows that wait behind others out of the order of time; `_bring_forward` puts them back.

    Whether they still wait is decided here, under the lock of whoever changes the order.
    """
    lock(connection, _LOCK)
    change = (
        update(outbox)
        .where(outbox.c.sink == bindparam("of_sink"), outbox.c.event_id == bindparam("of_event"))
        .where(outbox.c.status == "pending", _BEHIND)
        .values(next_attempt_at=None)
    )
    if event_ids:
        connection.execute(change, [{"of_sink": sink, "of_event": name} for name in event_ids])


def note_attempts(connection: Connection, attempted: Sequence[Attempted]) -> None:
    """Write what attempts made of their rows; the next row of each account becomes due.

    A row that was changed since it was read, as by another process that leads now, stays as it is.
    """
    lock(connection, _LOCK)
    change = (
        update(outbox)
        .where(outbox.c.sink == bindparam("of_sink"), outbox.c.event_id == bindparam("of_event"))
        .where(outbox.c.status == "pending", outbox.c.attempts == bindparam("before"))
        .values(
            status=bindparam("to_status"),
            attempts=bindparam("before") + 1,
            next_attempt_at=bindparam("at"),
            detail=bindparam("because"),
        )
    )
    if not attempted:
        return
    connection.execute(
        change,
        [
            {
                "of_sink": one.due.sink,
                "of_event": one.due.message.event_id,
                "before": one.due.attempts,
                "to_status": one.status,
                "at": one.at,
                "because": one.detail[:SHOWN],
            }
            for one in attempted
        ],
    )
    for one in attempted:
        if one.status == "delivered":
            _bring_forward(connection, one.due.sink, one.due.message.account_id)


def skip(connection: Connection, event_id: str, sink: str, now: int, detail: str = "") -> bool:
    """Give up a dead letter, so that later events of its account reach the sink again.

    Parameters
    ----------
    connection:
        Of the transaction that records the command.
    event_id, sink:
        Of the dead letter.
    now:
        By the clock of `time.time_ns`.
    detail:
        For people.

    Returns
    -------
    Whether there was such a dead letter.
    """
    lock(connection, _LOCK)
    row = (outbox.c.event_id == event_id) & (outbox.c.sink == sink) & (outbox.c.status == "dead")
    account = connection.execute(select(outbox.c.account_id).where(row)).scalar_one_or_none()
    if account is None:
        return False
    change = update(outbox).where(row)
    connection.execute(change.values(status="skipped", next_attempt_at=now, detail=detail[:SHOWN]))
    _bring_forward(connection, sink, account)
    return True


def rearm(connection: Connection) -> None:
    """Make every row due that waits behind nothing; what a new leader begins with."""
    lock(connection, _LOCK)
    connection.execute(
        update(outbox)
        .where(outbox.c.status == "pending", outbox.c.next_attempt_at.is_(None), ~_BEHIND)
        .values(next_attempt_at=0)
    )


def prune(connection: Connection, before: int) -> int:
    """Delete rows that were delivered or skipped before a time; returns how many.

    At most some thousands at once, so that other writers wait for a moment only. Their events stay
    in the chain.
    """
    old = (
        select(outbox.c.event_id, outbox.c.sink)
        .where(outbox.c.status.in_(("delivered", "skipped")), outbox.c.next_attempt_at < before)
        .limit(_PRUNED_AT_ONCE)
    )
    found = [tuple(row) for row in connection.execute(old)]
    for start in range(0, len(found), 400):
        batch = found[start : start + 400]
        connection.execute(
            delete(outbox).where(tuple_(outbox.c.event_id, outbox.c.sink).in_(batch))
        )
    return len(found)


def _bring_forward(connection: Connection, sink: str, account_id: str) -> None:
    """Make the next row of an account due, unless a dead letter stands before it."""
    first: ColumnElement[int] = (
        select(func.min(_EARLIER.c.sequence))
        .where(
            _EARLIER.c.sink == sink,
            _EARLIER.c.account_id == account_id,
            _WAITS,
        )
        .scalar_subquery()
    )
    connection.execute(
        update(outbox)
        .where(outbox.c.sink == sink, outbox.c.account_id == account_id)
        .where(outbox.c.status == "pending", outbox.c.next_attempt_at.is_(None))
        .where(outbox.c.sequence == first)
        .values(next_attempt_at=0)
    )


@dataclass(frozen=True, slots=True)
class SinkCounts:
    """How many rows a sink has.

    Attributes
    ----------
    by_status:
        Rows of each status.
    oldest:
        When the oldest undelivered one was created, nanoseconds; None where there is none.
    """

    by_status: dict[str, int]
    oldest: int | None


def count_rows(connection: Connection) -> dict[str, SinkCounts]:
    """Rows of each sink that has any."""
    oldest = func.min(case((outbox.c.status.in_(_UNDELIVERED), outbox.c.created_at)))
    query = select(outbox.c.sink, outbox.c.status, func.count(), oldest).group_by(
        outbox.c.sink, outbox.c.status
    )
    found: dict[str, SinkCounts] = {}
    for sink, status, count, created in connection.execute(query):
        before = found.get(sink, SinkCounts({}, None))
        times = [time for time in (before.oldest, created) if time is not None]
        found[sink] = SinkCounts({**before.by_status, status: count}, min(times, default=None))
    return found
