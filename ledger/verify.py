"""Verification: read a whole ledger again and say whether it is what was recorded.

A chain proves by itself that nothing inside it was altered, deleted, inserted or reordered. That
its end was not cut off, or the whole of it rewritten with fresh hashes, only heads kept
elsewhere can show (`ledger.heads`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Row, select
from sqlalchemy.exc import SQLAlchemyError

from ledger.chain import to_record
from ledger.contents import matches, present
from ledger.heads import Head, Heads, engine_of
from ledger.records import FIRST_PREVIOUS_HASH, referenced_contents
from ledger.schema import contents, database_errors, records
from market.core.errors import LedgerError

_CHUNK = 500
_MOST_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class ChainState:
    """What was found of a chain: how many records, and the hash of the last one."""

    records: int
    head: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of `verify`.

    Attributes
    ----------
    intact:
        Whether no problem was found.
    chains:
        State of each chain by name.
    problems:
        What is wrong and where, the first hundred, then how many more.
    """

    intact: bool
    chains: dict[str, ChainState]
    problems: list[str]


def verify(
    source: str | Engine,
    heads: Heads | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Check every record and every content of a ledger, in bounded memory.

    Found without heads: an altered column or payload, a deleted, inserted or reordered record, a
    content that was altered, or is missing though a record depends on it. Found with heads as
    well: a truncated or missing chain, and one rewritten with fresh hashes.

    Parameters
    ----------
    source:
        URL or engine of the ledger; nothing is created or changed there.
    heads:
        Heads kept from an earlier time; chains that grew since are fine.
    progress:
        Called with the number of records read so far, every few hundred.

    Raises
    ------
    LedgerError
        There is no ledger there, or its database cannot be opened. Data that cannot be read once
        it is open are a problem of the ledger, not an error.

    References
    ----------
    Crosby and Wallach (2009), Efficient data structures for tamper-evident logging.
    """
    audit = _Audit(dict(heads["chains"]) if heads is not None else {}, progress)
    with (
        engine_of(source) as engine,
        database_errors("open its database"),
        engine.connect() as connection,
    ):
        audit.run(connection)
    return audit.verdict()


@dataclass(slots=True)
class _Walk:
    """The place reached in one chain."""

    seq: int = 0
    count: int = 0
    hash: str = FIRST_PREVIOUS_HASH


@dataclass(slots=True)
class _Audit:
    heads: dict[str, Head]
    progress: Callable[[int], None] | None
    walks: dict[str, _Walk] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    read: int = 0

    def run(self, connection: Connection) -> None:
        # Contents after records: those of a ledger that is being written are there before them.
        streaming = connection.execution_options(yield_per=_CHUNK)
        try:
            for rows in streaming.execute(_ALL_RECORDS).partitions():
                self.check_records(connection, rows)
        except SQLAlchemyError as error:
            self.report(f"records could not be read past number {self.read}: {error}")
        try:
            for row in streaming.execute(_ALL_CONTENTS):
                if not matches(row.sha256, row.content):
                    self.report(f"content {row.sha256!r} was altered")
        except SQLAlchemyError as error:
            self.report(f"contents could not be read to their end: {error}")
        for chain, head in self.heads.items():
            self.check_end(chain, head)

    def check_records(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        dependants: dict[str, str] = {}
        for row in rows:
            self.check_record(row)
            for sha256 in self.dependencies(row):
                dependants.setdefault(sha256, _place(row))
        for sha256 in sorted(dependants.keys() - present(connection, dependants)):
            self.report(f"{dependants[sha256]}: content {sha256!r} it depends on is missing")
        self.read += len(rows)
        if self.progress is not None:
            self.progress(self.read)

    def check_record(self, row: Row[Any]) -> None:
        walk = self.walks.setdefault(row.chain, _Walk())
        walk.count += 1
        if not isinstance(row.seq, int):
            self.report(f"{_place(row)}: seq is not a number, it was altered")
            return
        if row.seq != walk.seq + 1:
            self.report(f"{_place(row)}: follows seq {walk.seq}, records are missing or misplaced")
        elif row.previous_hash != walk.hash:
            self.report(f"{_place(row)}: previous_hash is not the hash of the record before")
        head = self.heads.get(row.chain)
        if head is not None and row.seq == head["seq"] and row.hash != head["hash"]:
            self.report(f"{_place(row)}: is not the record the heads name, the chain was rewritten")
        walk.seq, walk.hash = row.seq, row.hash

    def dependencies(self, row: Row[Any]) -> list[str]:
        try:
            return referenced_contents(to_record(row).payload)
        except LedgerError as error:
            self.report(f"{_place(row)}: {error}")
            return []

    def check_end(self, chain: str, head: Head) -> None:
        walk = self.walks.get(chain, _Walk())
        if walk.seq < head["seq"]:
            self.report(
                f"chain {chain!r} ends at seq {walk.seq}, the heads say {head['seq']}: truncated"
            )

    def report(self, problem: str) -> None:
        self.problem_count += 1
        if self.problem_count <= _MOST_PROBLEMS:
            self.problems.append(problem)

    def verdict(self) -> Verification:
        more = self.problem_count - len(self.problems)
        return Verification(
            intact=self.problem_count == 0,
            chains={chain: ChainState(walk.count, walk.hash) for chain, walk in self.walks.items()},
            problems=[*self.problems, f"and {more} more"] if more else list(self.problems),
        )


_ALL_RECORDS = select(records).order_by(records.c.chain, records.c.seq)
_ALL_CONTENTS = select(contents.c.sha256, contents.c.content)


def _place(row: Row[Any]) -> str:
    return f"chain {row.chain!r} seq {row.seq} (id {row.id!r})"
