"""Rows and records of enforcement, read page by page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Row, Select, Table, and_, or_, select

from decisions.errors import RequestError
from ledger.chain import to_record
from ledger.packing import pack_id, unpack
from ledger.schema import database_errors, outbox, records
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import AlteredError
from serving.cursors import decode_cursor
from serving.schemas.enforcement_messages import Delivery
from serving.service import DEFAULT_PAGE

MOST_EVENTS = 1_000
"""Newest events of a call or an instruction that one answer shows."""

MOST_SCANNED = 5_000
"""Rows that one page reads for a filter that no column has; its cursor goes on after them."""

_Content = TypeVar("_Content", bound=Struct)


class PageCursor(Struct, frozen=True, array_like=True):
    """Where a page ended: what it lists, and time and id of its last row."""

    listing: Literal["calls", "instructions", "deliveries"]
    time: int
    row_id: str
    sink: str = ""


def check_limit(limit: int | None, most: int) -> int:
    """The limit of a page; raises `RequestError` where it is impossible."""
    if limit is None:
        return min(DEFAULT_PAGE, most)
    if not 1 <= limit <= most:
        raise RequestError(f"limit is {limit}; give 1 to {most}")
    return limit


def check_choice(name: str, value: str | None, choices: Collection[str]) -> None:
    """Refuse a filter that is none of some values; raises `RequestError`."""
    if value is not None and value not in choices:
        raise RequestError(f"{name} is {value!r}; give one of {', '.join(choices)}")


def read_cursor(text: str, listing: str) -> PageCursor:
    """The cursor of a page of a listing; raises `RequestError` where it is of none."""
    cursor = decode_cursor(text, PageCursor)
    if cursor.listing != listing:
        raise RequestError(
            f"the cursor is of pages of {cursor.listing}, not of {listing}; begin with the first"
        )
    return cursor


def older_than(table: Table, time: str, key: str, cursor: PageCursor) -> ColumnElement[bool]:
    """Rows after a cursor in a listing with the newest first."""
    at, name = table.c[time], table.c[key]
    return or_(at < cursor.time, and_(at == cursor.time, name < cursor.row_id))


def read_contents(
    ledger: Ledger, kind: type[_Content], query: Select[Any]
) -> list[tuple[Row[Any], _Content]]:
    """Rows with what they hold; raises `AlteredError` where one cannot be read."""
    with database_errors("read"), ledger.engine.connect() as connection:
        return [(row, _decoded(kind, row)) for row in connection.execute(query)]


def read_matching(
    ledger: Ledger,
    kind: type[_Content],
    query: Select[Any],
    wanted: Callable[[_Content], bool],
    limit: int,
) -> tuple[list[_Content], Row[Any] | None]:
    """The first contents of a query that are wanted, and after which row more may follow.

    At most `MOST_SCANNED` rows are read, so a page may hold less than `limit` and have a cursor.
    """
    found: list[_Content] = []
    last = None
    with database_errors("read"), ledger.engine.connect() as connection:
        rows = connection.execute(query.limit(MOST_SCANNED), execution_options={"yield_per": 200})
        count = 0
        for row in rows:
            if len(found) == limit:
                return found, last
            count, last = count + 1, row
            content = _decoded(kind, row)
            if wanted(content):
                found.append(content)
    return found, last if count == MOST_SCANNED else None


def read_events(ledger: Ledger, name: str, number: int) -> list[dict[str, Any]]:
    """The newest events of a call or an instruction in their order.

    Parameters
    ----------
    name:
        Its id; the events have ``<id>-1``, ``<id>-2``, ….
    number:
        Of its newest event.

    Raises
    ------
    AlteredError
        An event does not match its hash.
    """
    first = max(1, number - MOST_EVENTS + 1)
    ids = [pack_id(f"{name}-{n}") for n in range(first, number + 1)]
    found = []
    with database_errors("read"), ledger.engine.connect() as connection:
        for i in range(0, len(ids), 500):
            query = select(records).where(records.c.id.in_(ids[i : i + 500]))
            found += [to_record(row) for row in connection.execute(query)]
    return [
        {
            **record.payload,
            "event_id": record.id,
            "time": None if record.as_of is None else format_time(record.as_of),
        }
        for record in sorted(found, key=lambda record: record.seq)
    ]


def read_deliveries(ledger: Ledger, event_ids: Iterable[str]) -> list[Delivery]:
    """Notifications of some events, by event and sink."""
    ids = list(event_ids)
    found: list[Delivery] = []
    with database_errors("read"), ledger.engine.connect() as connection:
        for i in range(0, len(ids), 500):
            query = select(outbox).where(outbox.c.event_id.in_(ids[i : i + 500]))
            found += map(delivery, connection.execute(query))
    return sorted(found, key=lambda one: (one.sequence, one.event_id, one.sink))


def delivery(row: Row[Any]) -> Delivery:
    """A row of the outbox."""
    due = row.next_attempt_at if row.status == "pending" else None
    return Delivery(
        row.event_id,
        row.sink,
        row.account_id,
        row.sequence,
        row.status,
        row.attempts,
        format_time(row.created_at),
        None if due is None else format_time(due),
        row.detail,
    )


def many(rows: Sequence[tuple[Row[Any], _Content]]) -> list[_Content]:
    """The contents alone."""
    return [content for _, content in rows]


def _decoded(kind: type[_Content], row: Row[Any]) -> _Content:
    try:
        return msgspec.json.decode(unpack(row.content), type=kind)
    except (AlteredError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlteredError(
            f"row {row[0]!r} of enforcement cannot be read ({error}): it was altered, or a newer "
            "version wrote it; verify the ledger"
        ) from error
