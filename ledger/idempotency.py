"""Answers kept under an Idempotency-Key, so that a repeated request records nothing twice.

An answer is saved in the transaction that records what it reports (`Ledger.append_decisions`):
after a crash there are both or neither, and a retry finds the answer or does the work for the first
time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, delete, select, tuple_

from ledger.canonical import sha256_hex
from ledger.packing import pack, pack_id, unpack, unpack_sha256
from ledger.records import EncodedEntry, Entry
from ledger.schema import answers, database_errors, writing
from ledger.statements import json_list, statements
from market.core.errors import LedgerError

ANSWER = "answer"
"""Kind of the records that cover answers."""

PRUNED_AT_ONCE = 500
"""Most answers that one transaction deletes; others write between two of them."""


@dataclass(frozen=True, slots=True)
class IdempotentAnswer:
    """An answer to a request that carried an Idempotency-Key.

    Attributes
    ----------
    owner:
        Whose key it is, e.g. the id of the API key: two owners never share a key.
    key:
        The Idempotency-Key header.
    body_sha256:
        SHA-256 of the request body.
    status:
        HTTP status code.
    response:
        Response body.
    """

    owner: str
    key: str
    body_sha256: str
    status: int
    response: bytes

    @property
    def request(self) -> RequestKey:
        """What names the request."""
        return RequestKey(self.owner, self.key)


class LedgerConflictError(LedgerError):
    """An idempotency key was used again with another body."""


class RequestKey(NamedTuple):
    """What names a request that may be repeated: whose it is, and its Idempotency-Key."""

    owner: str
    key: str

    def conflict(self, answered: str, body_sha256: str) -> LedgerConflictError | None:
        """Why a request with this key is refused; None where its body is the answered one.

        Parameters
        ----------
        answered:
            SHA-256 of the body that was answered under the key.
        body_sha256:
            That of the request.
        """
        if body_sha256 == answered:
            return None
        return LedgerConflictError(
            f"Idempotency-Key {self.key!r} was used with another body (SHA-256 {answered}, now "
            f"{body_sha256}); use a new key for a new request"
        )


class Answers:
    """Answers in a ledger's database.

    Parameters
    ----------
    engine:
        As `ledger.schema.open_engine` gives it.

    References
    ----------
    https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def lookup(self, keys: Collection[RequestKey]) -> dict[RequestKey, IdempotentAnswer]:
        """The recorded answers to requests; those that are new are left out.

        Raises
        ------
        LedgerError
            The database failed.
        """
        if not keys:
            return {}
        with database_errors("look up an answer"), self._engine.connect() as connection:
            return find(connection, keys)

    def prune(self, before: int, wait_seconds: float | None = None) -> int:
        """Delete answers that were given before a time, the oldest first, in one transaction.

        Their records stay. A request that comes again under such a key is a new one. Of several
        processes each deletes what no other one is deleting.

        Parameters
        ----------
        before:
            UTC nanoseconds.
        wait_seconds:
            How long SQLite waits for another writer, see `ledger.schema.writing`.

        Returns
        -------
        How many; where it is `PRUNED_AT_ONCE` there may be more.

        Raises
        ------
        LedgerError
            The database failed, or the turn of this writer did not come; nothing was deleted.
        """
        old = (
            select(answers.c.owner, answers.c.key)
            .where(answers.c.answered_at < before)
            .order_by(answers.c.answered_at)
            .limit(PRUNED_AT_ONCE)
        )
        with database_errors("delete old answers"):
            with self._engine.connect() as connection:
                if connection.execute(old.limit(1)).first() is None:
                    return 0  # without waiting for the turn of a writer
            with writing(self._engine, wait_seconds) as connection:
                # SQLite has one writer, and no such clause.
                found = connection.execute(old.with_for_update(skip_locked=True)).all()
                named = [(row.owner, row.key) for row in found]
                is_old = tuple_(answers.c.owner, answers.c.key).in_(named)
                connection.execute(delete(answers).where(is_old))
        return len(named)


def find(
    connection: Connection, keys: Collection[RequestKey]
) -> dict[RequestKey, IdempotentAnswer]:
    """The recorded answers under some keys."""
    if not keys:
        return {}
    rows = connection.exec_driver_sql(statements(connection).answers, json_list(keys))
    return {RequestKey(row.owner, row.key): _answer(row) for row in rows}


def entry_of(answer: IdempotentAnswer) -> EncodedEntry:
    """The record that covers an answer: owner and key, and the hashes of request and answer."""
    return EncodedEntry.of(
        Entry(
            ANSWER,
            {
                "owner": answer.owner,
                "key": answer.key,
                "body_sha256": answer.body_sha256,
                "status": answer.status,
                "response_sha256": sha256_hex(answer.response),
            },
        ),
        text_keys=True,
    )


def save(
    connection: Connection,
    new: Sequence[IdempotentAnswer],
    covering: Sequence[Mapping[str, Any]],
) -> None:
    """Save answers, of which none is recorded yet, inside a write transaction of the caller.

    Parameters
    ----------
    connection:
        Of the transaction.
    new:
        The answers.
    covering:
        The columns of the records of each one's `entry_of`.
    """
    if new:
        rows = [
            (
                *answer.request,
                bytes.fromhex(answer.body_sha256),
                answer.status,
                pack(answer.response),
                record["recorded_at"],
                pack_id(record["id"]),
            )
            for answer, record in zip(new, covering, strict=True)
        ]
        connection.exec_driver_sql(statements(connection).insert_answer, rows)


def _answer(row: Row[Any]) -> IdempotentAnswer:
    body_sha256, response = unpack_sha256(row.body_sha256), unpack(row.response)
    return IdempotentAnswer(row.owner, row.key, body_sha256, row.status, response)
