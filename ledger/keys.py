"""API keys: made once, shown once, kept as a hash, and every change on the chain.

The records of kind ``keys`` hold all that the table ``api_keys`` holds, so that it can be made
again from them and compared. In their order, whatever chain each is in, a payload is one of

- ``{"action": "add", "key_id", "secret_sha256", "scopes": […], "label", "created_at",
  "expires_at", "rate_per_minute"}``: a row, its scopes in the table joined by blanks;
- ``{"action": "expire", "key_id", "expires_at", "successor"}``: a rotation set the expiry of a key,
  in the transaction that added its successor;
- ``{"action": "revoke", "key_id", "revoked_at"}``.

Times are UTC nanoseconds; null is NULL. Records of versions before label and expiry have only
``action``, ``key_id`` and ``scopes``: of their keys the scopes can be compared, and whether they
were revoked. The secret has 256 random bits, so its hash does not reveal it.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from ledger.canonical import sha256_hex
from ledger.chain import extend
from ledger.records import Entry
from ledger.schema import api_keys, database_errors
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import LedgerError, MargincastError

SCOPES = ("score", "market", "accounts", "read", "venue", "approve", "admin")
"""What a key may be allowed to do."""

MOST_LABEL = 100
"""Characters of a label."""

_MOST_RATE = 1_000_001
_PREFIX = "mck"
_NO_SECRET = "0" * 64
_COLUMNS = (
    "key_id, secret_sha256, scopes, created_at, revoked_at, label, expires_at, rate_per_minute"
)
_SQLITE_FETCH = f"SELECT {_COLUMNS} FROM api_keys WHERE key_id = ?"  # noqa: S608 - constants
_POSTGRES_FETCH = _SQLITE_FETCH.replace("?", "%s")
_SELECTED = [api_keys.c[name] for name in _COLUMNS.split(", ")]


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
        UTC nanoseconds; a key that was not revoked has no `revoked_at`.
    label:
        What people call it.
    expires_at:
        UTC nanoseconds from which it is refused; None: never.
    rate_per_minute:
        Requests a minute; None: as the endpoint is configured, 0: without limit.
    """

    key_id: str
    scopes: tuple[str, ...]
    created_at: int
    revoked_at: int | None
    label: str = ""
    expires_at: int | None = None
    rate_per_minute: int | None = None

    def state(self, now: int) -> str:
        """``active``, ``expired`` or ``revoked`` at a time."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"


class KeyExpiredError(MargincastError):
    """The secret belongs to a key that has expired."""


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
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closing: weakref.finalize[..., Any] | None = None

    @property
    def is_local(self) -> bool:
        """Whether `authenticate` reads a file, in microseconds, and does not wait for a server."""
        return self._ledger.engine.dialect.name == "sqlite"

    def add_key(
        self,
        scopes: Iterable[str],
        *,
        label: str = "",
        lifetime: int | None = None,
        rate_per_minute: int | None = None,
    ) -> tuple[str, str]:
        """Make a key.

        Parameters
        ----------
        scopes:
            Some of `SCOPES`.
        label:
            What people call it, at most 100 characters.
        lifetime:
            Nanoseconds until it expires; None: it does not.
        rate_per_minute:
            As in `KeyInfo`.

        Returns
        -------
        key_id, secret
            The secret reads ``mck_<id>_<token>`` with 256 random bits in its token, and cannot
            be had again: only its SHA-256 is stored, which is enough for a random secret.

        Raises
        ------
        LedgerError
            A scope is unknown, or there is none; the label or another value is impossible.
        """
        granted = _known(scopes)
        if len(label) > MOST_LABEL or not label.isprintable():
            raise LedgerError(
                f"label is {label[:MOST_LABEL]!r}; give at most {MOST_LABEL} printable characters"
            )
        if lifetime is not None and lifetime <= 0:
            raise LedgerError(f"a key that expires after {lifetime} ns never works; give more")
        if rate_per_minute is not None and rate_per_minute not in range(_MOST_RATE):
            raise LedgerError(
                f"rate_per_minute is {rate_per_minute}; give 0 (no limit) to {_MOST_RATE - 1}"
            )
        with self._ledger.transaction() as connection:
            now = time.time_ns()
            expires_at = None if lifetime is None else now + lifetime
            added = _Addition.of(
                KeyInfo("", tuple(granted), now, None, label, expires_at, rate_per_minute)
            )
            connection.execute(insert(api_keys), added.row)
            extend(connection, self._ledger.chain, [added.entry])
        return added.key_id, added.secret

    def rotate(self, key_id: str, overlap: int, lifetime: int | None = None) -> tuple[str, str]:
        """Make a key that takes the place of another, which expires after an overlap.

        The new one has scopes, label and rate of the old one, and its lifetime unless another is
        given. All of it is one transaction.

        Parameters
        ----------
        key_id:
            The old one.
        overlap:
            Nanoseconds for which it still works; one that expires sooner anyway still does.
        lifetime:
            As in `add_key`; None: as long as that of the old one from its creation.

        Returns
        -------
        key_id, secret
            As `add_key`.

        Raises
        ------
        LedgerError
            There is no such key, it was revoked, or it has expired.
        """
        with self._ledger.transaction() as connection:
            old = _one(connection, key_id)
            now = time.time_ns()
            if old.state(now) != "active":
                raise LedgerError(
                    f"key {key_id!r} is {old.state(now)}; `margincast keys add` makes a new one"
                )
            if lifetime is None and old.expires_at is not None:
                lifetime = old.expires_at - old.created_at
            expires_at = None if lifetime is None else now + lifetime
            added = _Addition.of(replace(old, created_at=now, expires_at=expires_at))
            end = now + overlap if old.expires_at is None else min(now + overlap, old.expires_at)
            connection.execute(insert(api_keys), added.row)
            connection.execute(
                update(api_keys).where(api_keys.c.key_id == key_id).values(expires_at=end)
            )
            change = {
                "action": "expire",
                "key_id": key_id,
                "expires_at": end,
                "successor": added.key_id,
            }
            extend(connection, self._ledger.chain, [added.entry, Entry("keys", change)])
        return added.key_id, added.secret

    def list_keys(self) -> list[KeyInfo]:
        """Every key ever made, the oldest first, revoked ones included."""
        every = select(*_SELECTED).order_by(api_keys.c.created_at, api_keys.c.key_id)
        with database_errors("list its keys"), self._ledger.engine.connect() as connection:
            return [_key_info(row) for row in connection.execute(every)]

    def revoke(self, key_id: str) -> None:
        """Revoke a key at once and permanently; revoking it again changes nothing.

        Raises
        ------
        LedgerError
            There is no such key.
        """
        with self._ledger.transaction() as connection:
            if _one(connection, key_id).revoked_at is not None:
                return
            now = time.time_ns()
            one = update(api_keys).where(api_keys.c.key_id == key_id)
            connection.execute(one.values(revoked_at=now))
            change = {"action": "revoke", "key_id": key_id, "revoked_at": now}
            extend(connection, self._ledger.chain, [Entry("keys", change)])

    def authenticate(self, secret: str) -> KeyInfo | None:
        """The key a secret belongs to, or None if it is unknown, malformed or revoked.

        Reads the database every time, so a revoked key is refused at once. The stored hash is
        compared in constant time, also when there is no such key.

        Raises
        ------
        KeyExpiredError
            The secret is right and its key has expired.
        """
        prefix, _, rest = secret.partition("_")
        key_id, _, token = rest.partition("_")
        if prefix != _PREFIX or not token or not secret.isascii():
            return None
        row = self._fetch(key_id)
        stored = _NO_SECRET if row is None else row[1]
        if not hmac.compare_digest(stored, sha256_hex(secret.encode())) or row is None:
            return None
        key = _key_info(row)
        state = key.state(time.time_ns())
        if state == "expired" and key.expires_at is not None:
            raise KeyExpiredError(
                f"key {key.key_id} expired at {format_time(key.expires_at)}; "
                "`margincast keys add` makes another"
            )
        return key if state == "active" else None

    def close(self) -> None:
        """Close the connection for look-ups; the next one opens another."""
        with self._lock:
            self._disconnect()

    def _fetch(self, key_id: str) -> Sequence[Any] | None:
        """The row of a key, in the order of `_COLUMNS`.

        The statement goes to the driver as it stands, on SQLite over a connection that is kept for
        it: this runs on every request, and a pooled connection and a newly built
        statement cost ten times as much. Nor does it wait for a pool that other threads exhausted.
        """
        with database_errors("check a key"):
            if not self.is_local:
                with self._ledger.engine.connect() as pooled:
                    return pooled.exec_driver_sql(_POSTGRES_FETCH, (key_id,)).one_or_none()
            with self._lock:
                try:
                    row: Sequence[Any] | None = (
                        self._connected().execute(_SQLITE_FETCH, (key_id,)).fetchone()
                    )
                except sqlite3.Error:
                    self._disconnect()
                    raise
                return row

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            engine = self._ledger.engine
            arguments, parsed = engine.dialect.create_connect_args(engine.url)
            options: dict[str, Any] = {**parsed, "check_same_thread": False}
            self._connection = connection = sqlite3.connect(arguments[0], **options)
            self._closing = weakref.finalize(self, connection.close)
        return self._connection

    def _disconnect(self) -> None:
        if self._closing is not None:
            self._closing()
        self._connection = self._closing = None


def _known(scopes: Iterable[str]) -> list[str]:
    wanted = [scopes] if isinstance(scopes, str) else list(scopes)
    for scope in wanted:
        if scope not in SCOPES:
            raise LedgerError(f"scope {scope!r} is unknown; choose among {', '.join(SCOPES)}")
    if not wanted:
        raise LedgerError(f"a key needs a scope; choose among {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in wanted]


def _one(connection: Connection, key_id: str) -> KeyInfo:
    row = connection.execute(select(*_SELECTED).where(api_keys.c.key_id == key_id)).one_or_none()
    if row is None:
        raise LedgerError(f"there is no key {key_id!r}; `margincast keys list` shows all")
    return _key_info(row)


def _key_info(row: Sequence[Any]) -> KeyInfo:
    key_id, _, scopes, *rest = row
    return KeyInfo(key_id, tuple(scopes.split()), *rest)


class _Addition(NamedTuple):
    """A fresh key: its secret, its row and its record."""

    key_id: str
    secret: str
    row: dict[str, Any]
    entry: Entry

    @classmethod
    def of(cls, info: KeyInfo) -> _Addition:
        """A key like this one with an id and a secret of its own."""
        key_id = secrets.token_hex(6)
        secret = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        facts = {
            "key_id": key_id,
            "secret_sha256": sha256_hex(secret.encode()),
            "created_at": info.created_at,
            "label": info.label,
            "expires_at": info.expires_at,
            "rate_per_minute": info.rate_per_minute,
        }
        row = {**facts, "scopes": " ".join(info.scopes)}
        return cls(
            key_id,
            secret,
            row,
            Entry("keys", {"action": "add", **facts, "scopes": list(info.scopes)}),
        )


def is_key(secret: str) -> bool:
    """Whether a secret has the form of a key rather than of a JSON Web Token."""
    return secret.startswith(f"{_PREFIX}_")
