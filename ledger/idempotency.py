"""Answers kept under an Idempotency-Key, so that a repeated request records nothing twice.

An answer is saved in the transaction that records what it reports (`Ledger.append`): after a
crash there are both or neither, and a retry finds the answer or does the work for the first time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, select

from ledger.schema import answers, database_errors, insert_if_absent
from market.core.errors import LedgerError


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


class LedgerConflictError(LedgerError):
    """An idempotency key came back with another body."""


class LedgerDuplicateError(LedgerError):
    """The same request was answered meanwhile; nothing was recorded by this one.

    Parameters
    ----------
    answer:
        The answer in the ledger: send this one.
    """

    def __init__(self, answer: IdempotentAnswer) -> None:
        super().__init__(
            f"a request with Idempotency-Key {answer.key!r} and the same body is already "
            "answered; send the recorded answer"
        )
        self.answer = answer


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

    def lookup(self, owner: str, key: str, body_sha256: str) -> IdempotentAnswer | None:
        """The recorded answer to a request, or None if it is new.

        Raises
        ------
        LedgerConflictError
            The key was used with another body.
        LedgerError
            The database failed.
        """
        with database_errors("look up an answer"), self._engine.connect() as connection:
            return _find(connection, owner, key, body_sha256)


def save(connection: Connection, response: IdempotentAnswer) -> None:
    """Save an answer inside a write transaction of the caller.

    Raises
    ------
    LedgerDuplicateError
        The request is already answered.
    LedgerConflictError
        The key was used with another body.
    """
    if insert_if_absent(connection, answers, asdict(response)):
        return
    stored = _find(connection, response.owner, response.key, response.body_sha256)
    if stored is None:
        raise LedgerError(f"the answer under Idempotency-Key {response.key!r} vanished; try again")
    raise LedgerDuplicateError(stored)


def _find(
    connection: Connection, owner: str, key: str, body_sha256: str
) -> IdempotentAnswer | None:
    under_key = select(answers).where(answers.c.owner == owner, answers.c.key == key)
    row = connection.execute(under_key).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != body_sha256:
        raise LedgerConflictError(
            f"Idempotency-Key {key!r} was used with another body (SHA-256 {row.body_sha256}, "
            f"now {body_sha256}); use a new key for a new request"
        )
    return IdempotentAnswer(**row._mapping)
