"""Shared facts by content: market views and rule sets, stored once and named by their SHA-256."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from ledger.canonical import canonical_bytes, read_canonical, sha256_hex
from ledger.schema import contents, in_batches, insert_if_absent
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


def put(connection: Connection, kind: str, content: dict[str, Any] | CanonicalContent) -> str:
    """Store a content unless it is there; returns the SHA-256 of its canonical JSON.

    Raises
    ------
    LedgerError
        The content has no canonical JSON.
    """
    made = content if isinstance(content, CanonicalContent) else CanonicalContent.of(content)
    row = {"sha256": made.sha256, "kind": kind, "content": made.text.decode()}
    insert_if_absent(connection, contents, row)
    return made.sha256


def get(connection: Connection, sha256: str) -> dict[str, Any]:
    """Read a content back.

    Raises
    ------
    AlteredError
        It is not in the ledger, or no longer what its SHA-256 says.
    """
    found = select(contents.c.content).where(contents.c.sha256 == sha256)
    content = connection.execute(found).scalar_one_or_none()
    if content is None:
        raise AlteredError(
            f"content {sha256!r} is not in the ledger; it was never put or is deleted"
        )
    if not matches(sha256, content):
        raise AlteredError(
            f"content {sha256!r} does not match its SHA-256: it was altered, do not rely on it"
        )
    value: dict[str, Any] = read_canonical(content)
    return value


def matches(sha256: object, content: object) -> bool:
    """Whether a stored text is the one its SHA-256 names."""
    return isinstance(content, str) and sha256_hex(content.encode()) == sha256


def present(connection: Connection, sha256s: Iterable[str]) -> set[str]:
    """Those of the given SHA-256 that are in the ledger."""
    found: set[str] = set()
    for batch in in_batches(sha256s):
        some = select(contents.c.sha256).where(contents.c.sha256.in_(batch))
        found.update(connection.execute(some).scalars())
    return found
