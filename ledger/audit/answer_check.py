"""Compare answers under idempotency keys with the ``answer`` records of the chains.

A record holds owner, key, hash of the body, status and hash of the response; the table holds the
response itself, for as long as a retry may come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, tuple_

from ledger.canonical import read_canonical, sha256_hex
from ledger.idempotency import ANSWER
from ledger.packing.identifiers import pack_id, unpack_sha256
from ledger.packing.texts import unpack
from ledger.records import Record
from ledger.schema import answers, records
from market.core.errors import LedgerError

_CHUNK = 500
_MOST_NAMED = 20


class AnswerCheck:
    """Compares rows of answers with their records.

    Parameters
    ----------
    connection:
        To the ledger.
    since:
        Answers recorded since then, UTC nanoseconds, must be in the table; earlier ones may have
        been pruned. None: any may be missing.

    Attributes
    ----------
    matched:
        How many rows of the table a record was found for.
    """

    def __init__(self, connection: Connection, since: int | None) -> None:
        self._connection = connection
        self._since = since
        self.matched = 0

    def problems(self, written: Sequence[Record]) -> Iterator[str]:
        """Rows that are missing or not what these records say."""
        if not written:
            return
        named = [name for name in map(_named, written) if name is not None]
        query = select(answers).where(tuple_(answers.c.owner, answers.c.key).in_(named))
        found = {
            bytes(row.record_id): row
            for row in self._connection.execute(query)
            if isinstance(row.record_id, bytes | memoryview)
        }
        for record in written:
            if _named(record) is None:
                yield f"{_name(record)}: no answer has this owner and key, it was forged"
                continue
            row = found.get(pack_id(record.id))
            if row is not None:
                self.matched += 1
                if not _agrees(row, record):
                    yield f"{_name(record)} is not the one its record says: it was altered"
            elif self._since is not None and record.recorded_at >= self._since:
                yield f"{_name(record)} is not in the table: it was deleted"


def rows_without_record(connection: Connection, matched: int) -> Iterator[str]:
    """Answers without a record; looked for only if there are more rows than matched records."""
    total = connection.execute(select(func.count()).select_from(answers)).scalar_one()
    if total <= matched:
        return
    said = 0
    covering = select(answers, records).outerjoin(
        records, (records.c.id == answers.c.record_id) & (records.c.kind == ANSWER)
    )
    for row in connection.execute(covering, execution_options={"yield_per": _CHUNK}):
        if not _covered(row):
            said += 1
            if said <= _MOST_NAMED:
                yield (
                    f"answer to {row.owner!r} under {row.key!r} has no record: it was put into "
                    "the table"
                )


def _named(record: Record) -> tuple[str, str] | None:
    """Owner and key of a record; None where no database holds them as text."""
    owner, key = record.payload.get("owner"), record.payload.get("key")
    if not isinstance(owner, str) or not isinstance(key, str):
        return None
    try:
        return None if b"\0" in (owner + key).encode() else (owner, key)
    except UnicodeEncodeError:
        return None


def _covered(row: Row[Any]) -> bool:
    """Whether the record that a row names is one of this answer."""
    if row.payload is None:
        return False
    try:
        payload = read_canonical(unpack(row.payload))
    except LedgerError:
        return False
    return isinstance(payload, dict) and (payload.get("owner"), payload.get("key")) == (
        row.owner,
        row.key,
    )


def _agrees(row: Row[Any], record: Record) -> bool:
    payload = record.payload
    try:
        body = unpack_sha256(row.body_sha256)
        response = unpack(row.response)
    except LedgerError:
        return False
    if row.answered_at != record.recorded_at:
        return False  # it would be pruned before its time, or never
    return (row.owner, row.key, body, row.status, sha256_hex(response)) == (
        payload.get("owner"),
        payload.get("key"),
        payload.get("body_sha256"),
        payload.get("status"),
        payload.get("response_sha256"),
    )


def _name(record: Record) -> str:
    return (
        f"answer to {record.payload.get('owner')!r} under {record.payload.get('key')!r} "
        f"(chain {record.chain!r} seq {record.seq})"
    )
