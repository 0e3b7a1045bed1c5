"""Heads: the newest hash of every chain, kept outside to detect truncation and rewriting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NotRequired, TypedDict

import msgspec
from sqlalchemy import Engine, func, select

from ledger.packing.identifiers import unpack_sha256
from ledger.schema import database_errors, open_engine, records
from market.core.clock import format_time
from market.core.errors import AlteredError, LedgerError
from market.core.files import replace_file


class Head(TypedDict):
    """Where a chain ends: the `seq` and `hash` of its newest record."""

    seq: int
    hash: str


class Heads(TypedDict):
    """Heads of all chains: what a heads file holds.

    Attributes
    ----------
    chains:
        Head of each chain by its name.
    at:
        When they were read, ISO 8601.
    counter:
        1, 2, 3, … along a series of heads files; absent in files of earlier versions.
    previous:
        SHA-256 of the canonical JSON of the heads file before, zeros for the first.
    public_key, signature:
        See `ledger.audit.signing`; absent where no key signs.
    """

    chains: dict[str, Head]
    at: str
    counter: NotRequired[int]
    previous: NotRequired[str]
    public_key: NotRequired[str]
    signature: NotRequired[str]


def heads(source: str | Engine) -> Heads:
    """Heads of every chain of a ledger now.

    Parameters
    ----------
    source:
        URL or engine of the ledger.

    Raises
    ------
    LedgerError
        There is no ledger there, or the database failed.
    AlteredError
        A chain ends with what was never recorded.
    """
    # The time first: whatever was recorded before it and is committed is in the heads.
    now = time.time_ns()
    newest = select(records.c.chain, func.max(records.c.seq).label("seq")).group_by(records.c.chain)
    ends = newest.subquery()
    query = select(records.c.chain, records.c.seq, records.c.hash).join(
        ends, (records.c.chain == ends.c.chain) & (records.c.seq == ends.c.seq)
    )
    with (
        engine_of(source) as engine,
        database_errors("read its heads"),
        engine.connect() as connection,
    ):
        chains: dict[str, Head] = {}
        for row in connection.execute(query):
            if not isinstance(row.chain, str) or not isinstance(row.seq, int):
                raise AlteredError(f"chain {row.chain!r} ends at seq {row.seq!r}; it was altered")
            chains[row.chain] = Head(seq=row.seq, hash=unpack_sha256(row.hash))
    return Heads(chains=dict(sorted(chains.items())), at=format_time(now))


def write_heads(path: Path | str, heads: Heads) -> None:
    """Write heads to a JSON file, atomically: a reader sees the old file or the new one.

    Raises
    ------
    LedgerError
        The file cannot be written.
    """
    encoded = msgspec.json.format(msgspec.json.encode(heads), indent=2) + b"\n"
    try:
        replace_file(Path(path), encoded)
    except OSError as error:
        raise LedgerError(f"heads cannot be written to {str(path)!r}: {error}") from error


def read_heads(path: Path | str) -> Heads:
    """Read what `write_heads` wrote.

    Raises
    ------
    LedgerError
        The file cannot be read or is not a heads file.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Heads)
    except (OSError, msgspec.DecodeError) as error:
        raise LedgerError(
            f"{str(path)!r} is not a readable heads file: {error}; "
            'expected {"chains": {"main": {"seq": 1, "hash": "…"}}, "at": "…"}'
        ) from error


@contextmanager
def engine_of(source: str | Engine) -> Iterator[Engine]:
    """An engine given, left open; or one opened at a URL, closed at the end. Creates nothing."""
    if isinstance(source, Engine):
        yield source
        return
    engine = open_engine(source, create=False)
    try:
        yield engine
    finally:
        engine.dispose()
