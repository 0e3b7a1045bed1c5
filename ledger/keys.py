"""API keys: made once, shown once, kept as a hash, and every change on the chain."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update

from ledger.canonical import sha256_hex
from ledger.chain import extend
from ledger.records import Entry
from ledger.schema import api_keys, database_errors
from ledger.store import Ledger
from market.core.errors import LedgerError

SCOPES = ("score", "market", "read", "admin")
"""What a key may be allowed to do."""

_PREFIX = "mck"
_NO_SECRET = "0" * 64


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key without its secret.

    Attributes
    ----------
    key_id:
        The middle part of the secret, safe to log.
    scopes:
        Some of `SCOPES`, in that order.
    created_at, revoked_at:
        UTC nanoseconds; a key that still works has no `revoked_at`.
    """

    key_id: str
    scopes: tuple[str, ...]
    created_at: int
    revoked_at: int | None


class Keys:
    """API keys of a ledger.

    Parameters
    ----------
    ledger:
        Holds the keys, and on its chain every addition and revocation.

    Raises
    ------
    LedgerError
        In every method: the database failed.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def add_key(self, scopes: Iterable[str]) -> tuple[str, str]:
        """Make a key.

        Parameters
        ----------
        scopes:
            Some of `SCOPES`.

        Returns
        -------
        key_id, secret
            The secret reads ``mck_<id>_<token>`` with 256 random bits in its token, and cannot
            be had again: only its SHA-256 is stored, which is enough for a random secret.

        Raises
        ------
        LedgerError
            A scope is unknown, or there is none.
        """
        granted = _known(scopes)
        key_id = secrets.token_hex(6)
        secret = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        row = {
            "key_id": key_id,
            "secret_sha256": sha256_hex(secret.encode()),
            "scopes": " ".join(granted),
            "created_at": time.time_ns(),
        }
        change = {"action": "add", "key_id": key_id, "scopes": granted}
        with self._ledger.transaction() as connection:
            connection.execute(insert(api_keys), row)
            extend(connection, self._ledger.chain, [Entry("keys", change)])
        return key_id, secret

    def list_keys(self) -> list[KeyInfo]:
        """Every key ever made, the oldest first, revoked ones included."""
        every = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
        with database_errors("list its keys"), self._ledger.engine.connect() as connection:
            return [_key_info(row) for row in connection.execute(every)]

    def revoke(self, key_id: str) -> None:
        """Make a key useless at once and for good; revoking it again changes nothing.

        Raises
        ------
        LedgerError
            There is no such key.
        """
        one = api_keys.c.key_id == key_id
        with self._ledger.transaction() as connection:
            if connection.execute(select(api_keys).where(one)).one_or_none() is None:
                raise LedgerError(f"there is no key {key_id!r}; `margincast keys list` shows all")
            stamp = (
                update(api_keys)
                .where(one, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=time.time_ns())
            )
            if connection.execute(stamp).rowcount:
                change = {"action": "revoke", "key_id": key_id}
                extend(connection, self._ledger.chain, [Entry("keys", change)])

    def authenticate(self, secret: str) -> KeyInfo | None:
        """The key a secret belongs to, or None if it is unknown, malformed or revoked.

        The stored hash is compared in constant time, also when there is no such key.
        """
        prefix, _, rest = secret.partition("_")
        key_id, _, token = rest.partition("_")
        if prefix != _PREFIX or not token or not secret.isascii():
            return None
        one = select(api_keys).where(api_keys.c.key_id == key_id)
        with database_errors("check a key"), self._ledger.engine.connect() as connection:
            row = connection.execute(one).one_or_none()
        stored = _NO_SECRET if row is None else row.secret_sha256
        if not hmac.compare_digest(stored, sha256_hex(secret.encode())) or row is None:
            return None
        return _key_info(row) if row.revoked_at is None else None


def _known(scopes: Iterable[str]) -> list[str]:
    wanted = [scopes] if isinstance(scopes, str) else list(scopes)
    for scope in wanted:
        if scope not in SCOPES:
            raise LedgerError(f"scope {scope!r} is unknown; choose among {', '.join(SCOPES)}")
    if not wanted:
        raise LedgerError(f"a key needs a scope; choose among {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in wanted]


def _key_info(row: Row[Any]) -> KeyInfo:
    return KeyInfo(row.key_id, tuple(row.scopes.split()), row.created_at, row.revoked_at)
