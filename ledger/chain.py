"""A chain of records in the database: extend it, read its rows, check a row against its hash."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError

from ledger.canonical import canonical_bytes, read_canonical
from ledger.contents import present
from ledger.records import (
    FIRST_PREVIOUS_HASH,
    Entry,
    Record,
    new_id,
    record_hash,
    referenced_contents,
)
from ledger.schema import lock, records
from market.core.errors import AlteredError, LedgerError, UnrecordableError


def extend(
    connection: Connection, chain: str, entries: Sequence[Entry], after: int = 0
) -> list[Record]:
    """Append entries to a chain inside a write transaction of the caller.

    Parameters
    ----------
    connection:
        A connection inside `ledger.schema.writing`.
    chain:
        Name of the chain; a new name starts a new chain.
    entries:
        What to append, in this order.
    after:
        They count as recorded after this time, UTC nanoseconds.

    Returns
    -------
    list of Record
        One for each entry, final once the transaction commits.

    Raises
    ------
    UnrecordableError
        A payload has no canonical JSON, an id is taken, or a content that a payload names is
        not in the ledger.
    """
    if not entries:
        return []
    lock(connection, f"chain:{chain}")
    seq, previous_hash, latest = _head(connection, chain)
    recorded_at = max(time.time_ns(), latest + 1, after + 1)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        seq += 1
        row = _row(entry, chain, seq, recorded_at, previous_hash)
        previous_hash = row["hash"]
        rows.append(row)
    _refuse_missing_contents(connection, entries)
    try:
        connection.execute(insert(records), rows)
    except IntegrityError as error:
        ids = ", ".join(row["id"] for row in rows[:3])
        raise UnrecordableError(
            f"an id among the {len(rows)} to record ({ids}, …) is already in the ledger or given "
            "twice; records are never replaced, give fresh ids"
        ) from error
    return [
        Record(**{**row, "payload": entry.payload})
        for row, entry in zip(rows, entries, strict=True)
    ]


def stored_hash(row: Row[Any]) -> str:
    """Hash of a row of `ledger.schema.records` recomputed from its other columns.

    Raises
    ------
    AlteredError
        A column holds a type that was never written there.
    """
    if not isinstance(row.payload, str):
        raise AlteredError(f"payload of record {row.id!r} is not text; it was altered")
    return record_hash(dict(row._mapping))


def to_record(row: Row[Any]) -> Record:
    """The record of a row of `ledger.schema.records`, checked against its own hash.

    Raises
    ------
    AlteredError
        The row does not match its hash.
    LedgerError
        Its payload is not an object.
    """
    if stored_hash(row) != row.hash:
        raise AlteredError(
            f"record {row.id!r} (chain {row.chain!r}, seq {row.seq}) does not match its hash: "
            "it was altered, do not rely on it"
        )
    payload = read_canonical(row.payload)
    if not isinstance(payload, dict):
        raise LedgerError(f"payload of record {row.id!r} is not an object; it was not written here")
    return Record(**{**row._mapping, "payload": payload})


def _head(connection: Connection, chain: str) -> tuple[int, str, int]:
    newest = (
        select(records.c.seq, records.c.hash, records.c.recorded_at)
        .where(records.c.chain == chain)
        .order_by(records.c.seq.desc())
        .limit(1)
    )
    head = connection.execute(newest).one_or_none()
    return (0, FIRST_PREVIOUS_HASH, 0) if head is None else (head.seq, head.hash, head.recorded_at)


def _row(
    entry: Entry, chain: str, seq: int, recorded_at: int, previous_hash: str
) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "chain": chain,
        "seq": seq,
        "id": entry.id or new_id(),
        "kind": entry.kind,
        "account_id": entry.account_id,
        "as_of": entry.as_of,
        "recorded_at": recorded_at,
        "payload": canonical_bytes(entry.payload).decode(),
        "previous_hash": previous_hash,
    }
    return {**columns, "hash": record_hash(columns)}


def _refuse_missing_contents(connection: Connection, entries: Sequence[Entry]) -> None:
    named = {sha256 for entry in entries for sha256 in referenced_contents(entry.payload)}
    missing = named - present(connection, named)
    if missing:
        raise UnrecordableError(
            f"a payload depends on content {min(missing)!r}, which is not in the ledger; "
            "put it first or append it in the same call"
        )
