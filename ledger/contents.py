"""Shared contents: market views and rule sets, stored once and named by their SHA-256."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from ledger.canonical import canonical_bytes, read_canonical, sha256_hex
from ledger.packing import pack, unpack
from ledger.schema import contents, in_batches
from ledger.statements import contents_present, statements
from market.core.errors import AlteredError


@dataclass(frozen=True, slots=True)
class CanonicalContent:
    """A content in its canonical JSON, made once where it is put many times.

    Attributes
    ----------
    text:
        Canonical JSON.
    sha256:
        Of the text.
    """

    text: bytes
    sha256: str

    @classmethod
    def of(cls, content: dict[str, Any]) -> CanonicalContent:
        """The canonical form of a content; raises `LedgerError` where it has none."""
        text = canonical_bytes(content)
        return cls(text, sha256_hex(text))


def put(
    connection: Connection, shared: Sequence[tuple[str, dict[str, Any] | CanonicalContent]]
) -> list[str]:
    """Store contents that are not stored yet; returns the SHA-256 of each one's canonical JSON.

    Parameters
    ----------
    connection:
        A connection inside a write transaction of the caller.
    shared:
        Pairs of kind and content.

    Raises
    ------
    LedgerError
        A content has no canonical JSON.
    """
    made = [
        (kind, content if isinstance(content, CanonicalContent) else CanonicalContent.of(content))
        for kind, content in shared
    ]
    sha256s = [content.sha256 for _, content in made]
    known = present(connection, sha256s)
    # In order: two PostgreSQL transactions that put the same ones wait, and do not deadlock.
    rows = sorted(
        (bytes.fromhex(content.sha256), kind, pack(content.text))
        for kind, content in made
        if content.sha256 not in known
    )
    if rows:
        connection.exec_driver_sql(statements(connection).insert_content, rows)
    return sha256s


def get(connection: Connection, sha256: str) -> dict[str, Any]:
    """Read a content back.

    Raises
    ------
    AlteredError
        It is not in the ledger, or no longer what its SHA-256 says.
    """
    found = select(contents.c.content).where(contents.c.sha256 == bytes.fromhex(sha256))
    stored = connection.execute(found).scalar_one_or_none()
    if stored is None:
        raise AlteredError(
            f"content {sha256!r} is not in the ledger; it was never put or is deleted"
        )
    value: dict[str, Any] = read_canonical(checked_text(sha256, stored))
    return value


def checked_text(sha256: str, stored: object) -> bytes:
    """The text of a stored content.

    Raises
    ------
    AlteredError
        It is not the one its SHA-256 names.
    """
    try:
        text = unpack(stored)
    except AlteredError as error:
        raise AlteredError(f"content {sha256!r}: {error}") from error
    if sha256_hex(text) != sha256:
        raise AlteredError(
            f"content {sha256!r} does not match its SHA-256: it was altered, do not rely on it"
        )
    return text


def present(connection: Connection, sha256s: Collection[str]) -> set[str]:
    """Those of the given SHA-256 that are in the ledger."""
    found: set[str] = set()
    for batch in in_batches(sha256s):
        wanted = tuple(map(bytes.fromhex, batch))
        rows = connection.exec_driver_sql(contents_present(connection, len(wanted)), wanted)
        found.update(bytes(sha256).hex() for sha256 in rows.scalars())
    return found
