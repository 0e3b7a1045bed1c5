"""A chain of records in the database: extend it, read its rows, check a row against its hash."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, RowMapping
from sqlalchemy.exc import IntegrityError

from ledger.canonical import read_canonical
from ledger.contents import present
from ledger.packing import pack_id, unpack, unpack_id, unpack_sha256
from ledger.records import (
    FIRST_PREVIOUS_HASH,
    EncodedEntry,
    Entry,
    Record,
    hash_with_payload,
    record_hash,
    referenced_contents,
)
from ledger.schema import lock
from ledger.statements import statements
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
    encoded = [EncodedEntry.of(entry) for entry in entries]
    rows = extend_in_rounds(connection, chain, [encoded], after)
    return [Record(**row, payload=entry.payload) for row, entry in zip(rows, entries, strict=True)]


def extend_in_rounds(
    connection: Connection,
    chain: str,
    rounds: Sequence[Sequence[EncodedEntry]],
    after: int = 0,
    stored: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Append encoded entries, see `extend`; each round counts as recorded after the one before.

    Parameters
    ----------
    connection, chain, after:
        As in `extend`.
    rounds:
        What to append, in this order.
    stored:
        SHA-256 of contents that are in the ledger; others that a payload names are looked for.

    Returns
    -------
    list of dict
        The columns of each record but its payload.

    Raises
    ------
    UnrecordableError
        As `extend`.
    """
    if not any(rounds):
        return []
    lock(connection, f"chain:{chain}")
    seq, previous_hash, latest = _head(connection, chain)
    recorded_at = max(time.time_ns(), latest + 1, after + 1)
    rows: list[dict[str, Any]] = []
    payloads: list[bytes] = []
    for place, entries in enumerate(rounds):
        for entry in entries:
            seq += 1
            row = _row(entry, chain, seq, recorded_at + place, previous_hash)
            previous_hash = row["hash"]
            rows.append(row)
            payloads.append(entry.packed)
    _refuse_missing_contents(connection, rounds, stored)
    try:
        connection.exec_driver_sql(
            statements(connection).insert_record, list(map(packed_row, rows, payloads))
        )
    except IntegrityError as error:
        ids = ", ".join(row["id"] for row in rows[:3])
        raise UnrecordableError(
            f"an id among the {len(rows)} to record ({ids}, …) is already in the ledger or given "
            "twice; records are never replaced, give fresh ids"
        ) from error
    return rows


def packed_row(columns: Mapping[str, Any], payload: bytes) -> tuple[Any, ...]:
    """What is stored of a record, in the order of `ledger.statements.RECORD_COLUMNS`.

    Parameters
    ----------
    columns:
        All but the payload, as in `ledger.records.Record`.
    payload:
        Its canonical JSON, packed.
    """
    return (
        columns["chain"],
        columns["seq"],
        pack_id(columns["id"]),
        columns["kind"],
        columns["account_id"],
        columns["as_of"],
        columns["recorded_at"],
        payload,
        bytes.fromhex(columns["previous_hash"]),
        bytes.fromhex(columns["hash"]),
    )


def unpacked_row(stored: Mapping[str, Any] | RowMapping) -> dict[str, Any]:
    """The columns of a record that `packed_row` stored, not checked against its hash.

    Raises
    ------
    AlteredError
        A column holds what was never written there.
    """
    try:
        return {
            **stored,
            "id": unpack_id(stored["id"]),
            "payload": unpack(stored["payload"]).decode(),
            "previous_hash": unpack_sha256(stored["previous_hash"]),
            "hash": unpack_sha256(stored["hash"]),
        }
    except (AlteredError, UnicodeDecodeError) as error:
        place = f"record {stored['seq']} of chain {stored['chain']!r}"
        raise AlteredError(f"{place}: {error}") from error


def to_record(row: Row[Any]) -> Record:
    """The record of a row of `ledger.schema.records`, checked against its own hash.

    Raises
    ------
    AlteredError
        The row does not match its hash, or its payload is no JSON object that can be read.
    """
    columns = unpacked_row(row._mapping)
    name = columns["id"]
    if record_hash(columns) != columns["hash"]:
        raise AlteredError(
            f"record {name!r} (chain {row.chain!r}, seq {row.seq}) does not match its hash: "
            "it was altered, do not rely on it"
        )
    try:
        payload = read_canonical(columns["payload"])
    except LedgerError as error:
        raise AlteredError(f"payload of record {name!r}: {error}") from error
    if not isinstance(payload, dict):
        raise AlteredError(f"payload of record {name!r} is not an object; it was not written here")
    return Record(**columns | {"payload": payload})


def _head(connection: Connection, chain: str) -> tuple[int, str, int]:
    head = connection.exec_driver_sql(statements(connection).head, (chain,)).first()
    if head is None:
        return 0, FIRST_PREVIOUS_HASH, 0
    return head.seq, unpack_sha256(head.hash), head.recorded_at


def _row(
    encoded: EncodedEntry, chain: str, seq: int, recorded_at: int, previous_hash: str
) -> dict[str, Any]:
    entry = encoded.entry
    columns: dict[str, Any] = {
        "chain": chain,
        "seq": seq,
        "id": encoded.id,
        "kind": entry.kind,
        "account_id": entry.account_id,
        "as_of": entry.as_of,
        "recorded_at": recorded_at,
        "previous_hash": previous_hash,
    }
    columns["hash"] = hash_with_payload(columns, encoded.payload_sha256)
    return columns


def _refuse_missing_contents(
    connection: Connection, rounds: Sequence[Sequence[EncodedEntry]], stored: Collection[str]
) -> None:
    # Entries that are made together share the object that names their contents.
    naming = {
        id(encoded.entry.payload.get("contents")): encoded.entry.payload
        for entries in rounds
        for encoded in entries
    }
    named = {sha256 for payload in naming.values() for sha256 in referenced_contents(payload)}
    missing = named.difference(stored)
    missing -= present(connection, missing)
    if missing:
        raise UnrecordableError(
            f"a payload depends on content {min(missing)!r}, which is not in the ledger; "
            "put it first or append it in the same call"
        )
