"""Whether the outbox says what the chain says: an altered row would send a client a false call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, select

from enforcement.delivery.outbox import message_body
from enforcement.record.rows import CHAIN
from ledger.chain import to_record
from ledger.packing import pack_id, unpack
from ledger.records import Record
from ledger.schema import outbox, records, segments
from market.core.errors import AlteredError

_AT_ONCE = 300
_STATUSES = ("pending", "delivered", "dead", "skipped")


def outbox_problems(connection: Connection) -> Iterator[str]:
    """Rows that no record has, or that are not what their record says.

    Rows that are gone are not found, as those of delivered events are deleted after some time, nor
    are inserted ones once records of events were moved to an archive.
    """
    archived = connection.execute(select(segments.c.chain).where(segments.c.chain == CHAIN)).all()
    order = (outbox.c.event_id, outbox.c.sink)
    query = select(outbox).order_by(*order)
    for page in connection.execute(query, execution_options={"yield_per": _AT_ONCE}).partitions():
        ids = {pack_id(row.event_id) for row in page}
        found = connection.execute(select(records).where(records.c.id.in_(ids))).all()
        known = {record.id: record for record in map(to_record, found)}
        for row in page:
            record = known.get(row.event_id)
            if record is None and archived:
                continue
            problem = _problem(row, record)
            if problem:
                yield f"notification {row.event_id!r} for sink {row.sink!r}: {problem}"


def _problem(row: Row[Any], record: Record | None) -> str:
    if record is None:
        return "no record has its event: it was inserted"
    try:
        body = unpack(row.body)
    except AlteredError as error:
        return str(error)
    said = (record.account_id, record.payload.get("sequence"))
    expected = message_body(record.payload | {"event_id": record.id})
    if body != expected or (row.account_id, row.sequence) != said or row.status not in _STATUSES:
        return "it is not what the record of its event says: it was altered"
    return ""
