"""Look into a ledger of any size: how its chains stand, one record, a bounded span of records.

Every look-up follows an index, so none reads a whole chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, Select, func, select, tuple_

from ledger.archive.segments import read_segments
from ledger.chain import to_record
from ledger.packing.identifiers import unpack_sha256
from ledger.records import Record
from ledger.schema import database_errors, records
from ledger.store import Ledger
from market.core.errors import AlteredError

_PAGE = 200
_PAGE_BYTES = 1 << 20
"""Stored bytes of payloads that a page has at most, unless its first record alone has more."""


@dataclass(frozen=True, slots=True)
class ChainSummary:
    """How a chain stands.

    Attributes
    ----------
    name:
        Of the chain.
    seq:
        Number of its newest record, and so of all that were ever appended.
    hash, recorded_at, kind:
        Of the newest record, as its row says; time in nanoseconds.
    archived, segments:
        Records up to this number were moved to so many archived segments; 0: none.
    """

    name: str
    seq: int
    hash: str
    recorded_at: int
    kind: str
    archived: int
    segments: int


@dataclass(frozen=True, slots=True)
class RecordSpan:
    """Records of a kind that were recorded from a time to before another.

    Attributes
    ----------
    kind:
        Of the records.
    start, end:
        Nanoseconds.
    chain:
        Only this chain; None: all.
    """

    kind: str
    start: int
    end: int
    chain: str | None = None


def chain_summaries(ledger: Ledger) -> list[ChainSummary]:
    """Every chain of the table, by name.

    Raises
    ------
    LedgerError
        The database cannot be read.
    AlteredError
        A row of the archived segments, or the newest record of a chain, was altered.
    """
    with database_errors("read"), ledger.engine.connect() as connection:
        archived: dict[str, list[int]] = {}
        for segment in read_segments(connection):
            archived.setdefault(segment.chain, []).append(segment.last_seq)
        found = []
        for name in _names(connection):
            newest = (
                select(records.c.seq, records.c.hash, records.c.recorded_at, records.c.kind)
                .where(records.c.chain == name)
                .order_by(records.c.seq.desc())
                .limit(1)
            )
            row = connection.execute(newest).one()
            if not isinstance(row.seq, int) or not isinstance(row.recorded_at, int):
                raise AlteredError(f"the newest record of chain {name!r} was altered")
            ends = archived.get(name, [])
            found.append(
                ChainSummary(
                    *(name, row.seq, unpack_sha256(row.hash), row.recorded_at, row.kind),
                    *(max(ends, default=0), len(ends)),
                )
            )
        return found


def record_at(ledger: Ledger, chain: str, seq: int) -> Record | None:
    """The record at a place; None where the table has none.

    Raises
    ------
    AlteredError
        It does not match its hash.
    LedgerError
        The database cannot be read.
    """
    query = select(records).where(records.c.chain == chain, records.c.seq == seq)
    with database_errors("read"), ledger.engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else to_record(row)


def kinds_of(ledger: Ledger) -> list[str]:
    """Kinds of the records, by name."""
    with database_errors("read"), ledger.engine.connect() as connection:
        return list(_distinct(connection, "kind"))


def newest_of_kind(ledger: Ledger, kind: str, count: int) -> list[Record]:
    """The records of a kind that were recorded last, on all chains, the newest first.

    Raises
    ------
    AlteredError
        One does not match its hash.
    LedgerError
        The database cannot be read.
    """
    order = (records.c.recorded_at.desc(), records.c.chain.desc(), records.c.seq.desc())
    query = select(records).where(records.c.kind == kind).order_by(*order).limit(count)
    with database_errors("read"), ledger.engine.connect() as connection:
        return [to_record(row) for row in connection.execute(query)]


def more_than(ledger: Ledger, span: RecordSpan, most: int) -> bool:
    """Whether a span has more than so many records; counts no further."""
    inside = _of_span(select(records.c.seq), span).limit(most + 1).subquery()
    with database_errors("read"), ledger.engine.connect() as connection:
        found = connection.execute(select(func.count()).select_from(inside)).scalar_one()
    return int(found) > most


def records_of_span(ledger: Ledger, span: RecordSpan) -> Iterator[Record]:
    """The records of a span in the order of recording, read page by page.

    A page has few records where they are large, so memory stays bounded.

    Raises
    ------
    AlteredError
        One does not match its hash.
    LedgerError
        The database cannot be read.
    """
    after: tuple[int, str, int] | None = None
    while True:
        with database_errors("read"), ledger.engine.connect() as connection:
            sizes, query = (
                _following(select(column), span, after)
                for column in (func.length(records.c.payload), records)
            )
            stored = connection.execute(sizes.limit(_PAGE)).scalars().all()
            rows = connection.execute(query.limit(_fitting(stored))).all()
        page = [to_record(row) for row in rows]
        yield from page
        if not page or len(page) == len(stored) < _PAGE:
            return
        after = page[-1].recorded_at, page[-1].chain, page[-1].seq


def _following(
    query: Select[Any], span: RecordSpan, after: tuple[int, str, int] | None
) -> Select[Any]:
    """A query of the records of a span in the order of recording, after a place."""
    place = records.c.recorded_at, records.c.chain, records.c.seq
    query = _of_span(query, span).order_by(*place)
    return query if after is None else query.where(tuple_(*place) > after)


def _fitting(sizes: Sequence[int]) -> int:
    """So many of the next records have `_PAGE_BYTES` together; one at least."""
    return max(1, sum(total <= _PAGE_BYTES for total in accumulate(sizes)))


def _of_span(query: Select[Any], span: RecordSpan) -> Select[Any]:
    c = records.c
    query = query.where(c.kind == span.kind, c.recorded_at >= span.start, c.recorded_at < span.end)
    return query if span.chain is None else query.where(c.chain == span.chain)


def _names(connection: Connection) -> Iterator[str]:
    return _distinct(connection, "chain")


def _distinct(connection: Connection, column: str) -> Iterator[str]:
    """Values of a column with an index, one look-up each: `DISTINCT` would read the whole index."""
    values = records.c[column]
    query = select(func.min(values))
    value = connection.execute(query).scalar_one()
    while value is not None:
        yield value
        value = connection.execute(query.where(values > value)).scalar_one()
