"""Rows and records of enforcement, read page by page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Column, ColumnElement, Row, Select, Table, and_, func, or_, select

from decisions.errors import RequestError
from ledger.chain import to_record
from ledger.packing import pack_id, unpack
from ledger.schema import calls, database_errors, instructions, outbox, records
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import AlteredError
from serving.cursors import decode_cursor, encode_cursor
from serving.recorded_decisions import DEFAULT_PAGE
from serving.schemas.enforcement_messages import Delivery

MOST_EVENTS = 1_000
"""Newest events of a call or an instruction that one answer shows."""

MOST_SCANNED = 5_000
"""Rows that one page reads for a filter that no column has; its cursor goes on after them."""

_TABLES: dict[str, tuple[Table, Column[int], Column[str]]] = {
    "calls": (calls, calls.c.opened_at, calls.c.call_id),
    "instructions": (instructions, instructions.c.issued_at, instructions.c.instruction_id),
}
"""Each table with the columns of its order: time and id."""

CALL_SORTS = ("newest", "due")
"""Orders of calls: the newest first, or the next deadline first."""

_Listing = Literal["calls", "calls by deadline", "instructions", "deliveries"]

_NEVER = 2**63 - 1
"""Stands for the deadline of what has none: it comes last."""

_Content = TypeVar("_Content", bound=Struct)


_Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]
"""A database server takes no NUL in a text."""


class PageCursor(Struct, frozen=True, array_like=True):
    """Where a page ended: what it lists, and time and id of its last row."""

    listing: _Listing
    time: _Time
    row_id: _Text
    sink: _Text = ""


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


def is_storable(*texts: str) -> bool:
    """Whether texts can stand in a table: none has a NUL, which a database server refuses."""
    return not any("\0" in text for text in texts)


def read_cursor(text: str, listing: str) -> PageCursor:
    """The cursor of a page of a listing; raises `RequestError` where it is of none."""
    cursor = decode_cursor(text, PageCursor)
    if cursor.listing != listing:
        raise RequestError(
            f"the cursor is of pages of {cursor.listing}, not of {listing}; begin with the first"
        )
    return cursor


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which calls or instructions are asked for.

    Attributes
    ----------
    state, type, account, call_id:
        Only those in this state, of this type or kind, of this account, for this call; None: all.
    open:
        Only open ones, or only ended ones; None: both.
    limit, cursor:
        As in `serving.account_listing.PageRequest`.
    sort:
        Of calls, one of `CALL_SORTS`; None: the newest first.
    """

    state: str | None = None
    type: str | None = None
    account: str | None = None
    call_id: str | None = None
    open: bool | None = None
    limit: int | None = None
    cursor: str | None = None
    sort: str | None = None


class StoredRows(Generic[_Content]):
    """Reads the table of calls, or of instructions.

    Parameters
    ----------
    ledger:
        Where it is.
    listing:
        Name of the table.
    kind:
        What its rows hold.
    max_page:
        Most rows in a page.
    """

    def __init__(
        self,
        ledger: Ledger,
        listing: Literal["calls", "instructions"],
        kind: type[_Content],
        max_page: int,
    ) -> None:
        self._ledger, self._listing, self._kind, self._max_page = ledger, listing, kind, max_page
        self._table, self._time, self._id = _TABLES[listing]

    def page(
        self, query: RowQuery, wanted: Callable[[_Content], bool] = lambda _: True
    ) -> tuple[list[_Content], str | None]:
        """A page of rows, the newest first, and the cursor of the next one.

        Calls sorted by ``due`` are in the order of their deadlines, those without one last.

        At most `MOST_SCANNED` rows are read, so a page may hold less than its limit and have a
        cursor.

        Parameters
        ----------
        query:
            Which rows; a filter without a column, as the types of a call, is left to `wanted`.
        wanted:
            Which of them.

        Raises
        ------
        RequestError
            The limit or the cursor is impossible.
        LedgerError
            The rows cannot be read.
        """
        limit = check_limit(query.limit, self._max_page)
        c = self._table.c
        due = query.sort == "due"
        place: ColumnElement[int] = self._time
        if due:
            place = func.coalesce(calls.c.due_at, _NEVER)
        order = (place, self._id) if due else (place.desc(), self._id.desc())
        chosen = select(self._table).order_by(*order)
        if query.open is not None:
            chosen = chosen.where(c.is_open == int(query.open))
        for name, value in (
            ("account_id", query.account),
            ("call_id", query.call_id),
            ("state", query.state),
            ("kind", query.type),
        ):
            if value is not None and not is_storable(value):
                raise RequestError(f"{name} is {value!r}; give an id, which has no NUL character")
            if value is not None and name in c:
                chosen = chosen.where(c[name] == value)
        listing: _Listing = "calls by deadline" if due else self._listing
        if query.cursor is not None:
            after = read_cursor(query.cursor, listing)
            later = place > after.time if due else place < after.time
            beside = self._id > after.row_id if due else self._id < after.row_id
            chosen = chosen.where(or_(later, and_(place == after.time, beside)))
        found, last = self._matching(chosen, wanted, limit)
        if last is None:
            return found, None
        values = last._mapping
        at = values[self._time]
        if due:
            at = _NEVER if values[calls.c.due_at] is None else values[calls.c.due_at]
        return found, encode_cursor(PageCursor(listing, at, values[self._id]))

    def find(self, row_id: str) -> _Content | None:
        """What the row of an id holds; None where there is none."""
        if not is_storable(row_id):
            return None
        found = self.read(select(self._table).where(self._id == row_id))
        return found[0] if found else None

    def read(self, query: Select[Any]) -> list[_Content]:
        """What the rows of a query hold; raises `AlteredError` where one cannot be read."""
        with database_errors("read"), self._ledger.engine.connect() as connection:
            return [self._decoded(row) for row in connection.execute(query)]

    def _matching(
        self, query: Select[Any], wanted: Callable[[_Content], bool], limit: int
    ) -> tuple[list[_Content], Row[Any] | None]:
        """The first contents that are wanted, and after which row more may follow."""
        found: list[_Content] = []
        last = None
        options = {"yield_per": 200}
        with (
            database_errors("read"),
            self._ledger.engine.connect() as connection,
            connection.execute(query.limit(MOST_SCANNED), execution_options=options) as rows,
        ):
            count = 0
            for row in rows:
                if len(found) == limit:
                    return found, last
                count, last = count + 1, row
                content = self._decoded(row)
                if wanted(content):
                    found.append(content)
        return found, last if count == MOST_SCANNED else None

    def _decoded(self, row: Row[Any]) -> _Content:
        try:
            return msgspec.json.decode(unpack(row.content), type=self._kind)
        except (AlteredError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AlteredError(
                f"row {row[0]!r} of enforcement cannot be read ({error}): it was altered, or a "
                "newer version wrote it; verify the ledger"
            ) from error


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
