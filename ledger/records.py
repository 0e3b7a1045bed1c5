"""Entries to record, records of the ledger, and the hash that links them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.canonical import canonical_bytes, sha256_hex
from ledger.packing import pack
from market.core.errors import UnrecordableError

FIRST_PREVIOUS_HASH = "0" * 64
"""What the first record of a chain names as its predecessor."""

HASHED_COLUMNS = (
    "chain",
    "seq",
    "id",
    "kind",
    "account_id",
    "as_of",
    "recorded_at",
    "previous_hash",
)
"""Columns of a record that its hash covers, besides the payload."""

_SHA256 = re.compile("[0-9a-f]{64}")
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact to record.

    Attributes
    ----------
    kind:
        decision, market, ruleset, bars, quotes, quote_board, promotion, rollback, keys, retrain,
        rule_adoption, drift, notification, life_cycle, transition, liquidation, shortfall,
        deleverage, shadow, account_updates, model_review, evaluation or book_totals.
    payload:
        The fact itself; see `ledger.canonical.canonical_bytes` for what it may hold. Under the
        key ``contents`` it names the shared contents it depends on: a list of SHA-256, or an
        object whose keys end in ``_sha256``.
    id:
        Identifier, unique in the ledger; absent, a fresh one from `new_id`.
    account_id:
        The account concerned, if any.
    as_of:
        Decision time in UTC nanoseconds, if any.
    """

    kind: str
    payload: dict[str, Any]
    id: str | None = None
    account_id: str | None = None
    as_of: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that a database would store in another form, which would break the hash."""
        if not isinstance(self.kind, str) or not self.kind:
            raise UnrecordableError(f"entry kind is {self.kind!r}; give a non-empty text")
        if not isinstance(self.payload, dict):
            raise UnrecordableError(
                f"payload of a {self.kind} entry is {self.payload!r}; give a dict"
            )
        for name, text in (("id", self.id), ("account_id", self.account_id)):
            if text is not None and (not isinstance(text, str) or not text):
                raise UnrecordableError(f"entry {name} is {text!r}; give a non-empty text or None")
        if self.as_of is not None and (type(self.as_of) is not int or self.as_of not in _INT64):
            raise UnrecordableError(
                f"entry as_of is {self.as_of!r}; give UTC nanoseconds as a 64-bit int, or None"
            )


@dataclass(frozen=True, slots=True)
class EncodedEntry:
    """An entry with its payload as it is stored, made before a transaction waits for it.

    Attributes
    ----------
    entry:
        The entry.
    id:
        Its identifier.
    payload_sha256:
        SHA-256 of its payload's canonical JSON.
    packed:
        The canonical JSON as `ledger.packing.pack` packs it.
    """

    entry: Entry
    id: str
    payload_sha256: str
    packed: bytes

    @classmethod
    def of(cls, entry: Entry, *, text_keys: bool = False) -> EncodedEntry:
        """Encode an entry; `text_keys` and errors as of `ledger.canonical.canonical_bytes`."""
        text = canonical_bytes(entry.payload, text_keys=text_keys)
        return cls(entry, entry.id or new_id(), sha256_hex(text), pack(text))


@dataclass(frozen=True, slots=True)
class Record:
    """An entry as recorded: its place in a chain and the hashes that hold it there.

    Attributes
    ----------
    id, kind, account_id, as_of, payload:
        As in `Entry`.
    chain:
        Name of the chain.
    seq:
        Position in the chain: 1, 2, 3, … without gaps.
    recorded_at:
        UTC nanoseconds; rises along a chain from one transaction to the next, and from one
        decision of an account to the next on any chain, even if the clock steps back.
    previous_hash:
        Hash of the record before, `FIRST_PREVIOUS_HASH` for the first.
    hash:
        Hash of this record, see `record_hash`.
    """

    id: str
    chain: str
    seq: int
    kind: str
    account_id: str | None
    as_of: int | None
    recorded_at: int
    payload: dict[str, Any]
    previous_hash: str
    hash: str


def record_hash(columns: Mapping[str, Any]) -> str:
    """Hash of a record: SHA-256 over the canonical JSON of its columns.

    Parameters
    ----------
    columns:
        `HASHED_COLUMNS` and ``payload``, the canonical JSON as text. The payload enters by its
        own SHA-256 under ``payload_sha256``. Other columns do not count.

    References
    ----------
    Haber and Stornetta (1991), How to time-stamp a digital document, Journal of Cryptology 3.
    """
    return hash_with_payload(columns, sha256_hex(columns["payload"].encode()))


def hash_with_payload(columns: Mapping[str, Any], payload_sha256: str) -> str:
    """`record_hash` where the SHA-256 of the payload is known."""
    header = {name: columns[name] for name in HASHED_COLUMNS}
    header["payload_sha256"] = payload_sha256
    return sha256_hex(canonical_bytes(header, text_keys=True))


def new_id() -> str:
    """A fresh identifier of 32 hexadecimal digits that sorts by creation to the millisecond.

    References
    ----------
    RFC 9562, UUID version 7.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62
    return f"{value | random & (1 << 62) - 1:032x}"


def referenced_contents(payload: dict[str, Any]) -> list[str]:
    """SHA-256 of every shared content a payload depends on, from its key ``contents``.

    Both spellings count: a list of SHA-256, and an object whose keys end in ``_sha256`` (a null
    there is a dependency that is absent, and other keys are ignored).

    Raises
    ------
    UnrecordableError
        ``contents`` is neither, or one of them is not a SHA-256.
    """
    contents = payload.get("contents", [])
    if isinstance(contents, dict):
        named = [
            sha256
            for key, sha256 in contents.items()
            if key.endswith("_sha256") and sha256 is not None
        ]
    elif isinstance(contents, list | tuple):
        named = list(contents)
    else:
        raise UnrecordableError(
            f"payload contents is {contents!r}; give a list or object of SHA-256"
        )
    for sha256 in named:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise UnrecordableError(
                f"payload contents names {sha256!r}; give 64 lower-case hexadecimal digits"
            )
    return named
