"""Heads: the newest hash of every chain, kept outside so that a cut or rewritten end shows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import msgspec
from sqlalchemy import Engine, func, select

from ledger.schema import database_errors, open_engine, records
from market.core.clock import format_time
from market.core.errors import LedgerError


class Head(TypedDict):
    """Where a chain ends: the `seq` and `hash` of its newest record."""

    seq: int
    hash: str


class Heads(TypedDict):
    """Heads of all chains, ``at`` an ISO 8601 time: what the heads file holds."""

    chains: dict[str, Head]
    at: str


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
    """
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
        chains = {row.chain: Head(seq=row.seq, hash=row.hash) for row in connection.execute(query)}
    return Heads(chains=dict(sorted(chains.items())), at=format_time(time.time_ns()))


def write_heads(path: Path | str, heads: Heads) -> None:
    """Write heads to a JSON file, atomically: a reader sees the old file or the new one.

    Raises
    ------
    LedgerError
        The file cannot be written.
    """
    target = Path(path)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(heads), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"heads cannot be written to {str(target)!r}: {error}") from error


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
