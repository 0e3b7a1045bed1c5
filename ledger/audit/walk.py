"""Check a slice of a chain: recompute every hash, and collect what is compared across slices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.exc import SQLAlchemyError

from ledger.archive.segments import ARCHIVE
from ledger.audit.answer_check import AnswerCheck
from ledger.audit.key_check import KIND as KEYS
from ledger.canonical import read_canonical
from ledger.chain import unpacked_row
from ledger.contents import present
from ledger.idempotency import ANSWER
from ledger.records import Record, record_hash, referenced_contents
from ledger.schema import records
from market.core.clock import SECOND, format_time
from market.core.errors import LedgerError

MOST_PROBLEMS = 100
"""Most problems that are listed; the others are only counted."""

SLACK = 60 * SECOND
"""Longest time in nanoseconds between the time of records and their commit."""

_CHUNK = 1_000
_KEPT_KINDS = frozenset({KEYS, ARCHIVE})
_COLUMN_KINDS: Mapping[str, tuple[type, ...]] = {
    "chain": (str,),
    "seq": (int,),
    "kind": (str,),
    "account_id": (str, type(None)),
    "as_of": (int, type(None)),
    "recorded_at": (int,),
}
"""Types of the columns that are stored as they are: SQLite takes any."""


class Slice(NamedTuple):
    """A part of a chain.

    Attributes
    ----------
    chain:
        Its name.
    after:
        The record before the first; None: whatever the table holds.
    until:
        The last record; None: all that follow.
    linked:
        Whether the records follow one another. Those that stayed behind in an archived segment do
        not.
    """

    chain: str
    after: int | None
    until: int | None
    linked: bool = True


class Place(NamedTuple):
    """Where a record stands, and its hashes; None where they cannot be read."""

    seq: object
    previous_hash: str | None
    hash: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a walk compares with.

    Attributes
    ----------
    heads:
        For each chain the hash that kept heads name at some `seq`.
    covered:
        For each chain the furthest `seq` of the heads.
    heads_at:
        Records outside the heads must be later than this, UTC nanoseconds; None without heads.
    answers_since:
        Answers recorded since then must be in their table, UTC nanoseconds; None: unknown.
    """

    heads: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    covered: Mapping[str, int] = field(default_factory=dict)
    heads_at: int | None = None
    answers_since: int | None = None


@dataclass(slots=True)
class Problems:
    """The first `MOST_PROBLEMS` problems, and the number of all."""

    listed: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        """Add a problem."""
        self.count += 1
        if len(self.listed) < MOST_PROBLEMS:
            self.listed.append(problem)

    def extend(self, other: Problems) -> None:
        """Add the problems of another slice after these."""
        self.count += other.count
        self.listed += other.listed[: MOST_PROBLEMS - len(self.listed)]


@dataclass(slots=True)
class Walked:
    """What a walk found.

    Attributes
    ----------
    first, last:
        The ends of the slice; None where it is empty.
    count:
        Records read.
    problems:
        What is wrong inside the slice.
    uncovered, uncovered_since:
        Records after the heads, and when the first of them was recorded.
    early:
        How many of them claim a time before the heads.
    answers:
        Rows of answers that a record of the slice covers.
    kept:
        Records of keys and of archived segments, which are compared with other tables.
    hashes:
        Hash by ``seq`` of a slice that is not linked.
    """

    part: Slice
    first: Place | None = None
    last: Place | None = None
    count: int = 0
    problems: Problems = field(default_factory=Problems)
    uncovered: int = 0
    uncovered_since: int | None = None
    early: int = 0
    answers: int = 0
    kept: list[Record] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)


class _Payload(msgspec.Struct):
    contents: Any = ()


_PAYLOAD = msgspec.json.Decoder(_Payload)


def walk(connection: Connection, part: Slice, rules: Rules) -> Walked:
    """Check the records of a slice, in bounded memory."""
    walker = _Walker(connection, part, rules)
    try:
        for rows in connection.execute(
            _query(part), execution_options={"yield_per": _CHUNK}
        ).partitions():
            walker.check(rows)
    except SQLAlchemyError as error:
        walker.found.problems.add(
            f"chain {part.chain!r}: records could not be read past "
            f"{walker.found.count} of them: {error}"
        )
    return walker.found


def _query(part: Slice) -> Select[Any]:
    query = select(records).where(records.c.chain == part.chain).order_by(records.c.seq)
    if part.after is not None:
        query = query.where(records.c.seq > part.after)
    if part.until is not None:
        query = query.where(records.c.seq <= part.until)
    return query


class _Walker:
    def __init__(self, connection: Connection, part: Slice, rules: Rules) -> None:
        self.found = Walked(part)
        self._connection = connection
        self._rules = rules
        self._heads = rules.heads.get(part.chain, {})
        self._covered = rules.covered.get(part.chain, 0)
        self._known: set[str] = set()
        self._answers = AnswerCheck(connection, rules.answers_since)

    def check(self, rows: Sequence[Row[Any]]) -> None:
        """Check the next rows."""
        dependants: dict[str, str] = {}
        answers: list[Record] = []
        for row in rows:
            columns = self._check_row(row)
            if columns is None:
                continue
            for sha256 in self._dependencies(columns):
                if sha256 not in self._known:
                    dependants.setdefault(sha256, _name(columns))
            kind = columns["kind"]
            if kind == ANSWER or kind in _KEPT_KINDS:
                record = self._record(columns)
                if record is not None:
                    (answers if kind == ANSWER else self.found.kept).append(record)
        self._check_contents(dependants)
        for problem in self._answers.problems(answers):
            self._report(problem)
        self.found.answers = self._answers.matched
        self.found.count += len(rows)

    def _check_row(self, row: Row[Any]) -> dict[str, Any] | None:
        """The columns of a row in plain form; None where they cannot be relied upon."""
        try:
            columns = unpacked_row(row._mapping)
            hash_ = record_hash(columns)
        except (LedgerError, AttributeError, TypeError, ValueError) as error:
            self._report(f"chain {row.chain!r} seq {row.seq}: {error}")
            self._break(row.seq)
            return None
        strange = [
            name for name, kinds in _COLUMN_KINDS.items() if type(columns[name]) not in kinds
        ]
        if strange:
            self._report(f"{_name(columns)}: {', '.join(strange)} of another type, it was altered")
            self._break(row.seq)
            return None
        self._link(columns)
        self._compare_heads(columns)
        if hash_ != columns["hash"]:
            self._report(f"{_name(columns)}: does not match its hash, it was altered")
            return None
        return columns

    def _link(self, columns: Mapping[str, Any]) -> None:
        seq, found = columns["seq"], self.found
        before, place = found.last, Place(seq, columns["previous_hash"], columns["hash"])
        if not found.part.linked:
            found.hashes[seq] = columns["hash"]
        elif before is None:
            found.first = place
        elif problem := link_problem(before, place):
            self._report(f"{_name(columns)}: {problem}")
        found.last = place

    def _break(self, seq: object) -> None:
        """A row that cannot be read has its place, and no hash that another one could name."""
        place = Place(seq, None, None)
        before = self.found.last
        if before is None:
            self.found.first = place
        elif self.found.part.linked and (problem := link_problem(before, place)):
            self._report(f"chain {self.found.part.chain!r} seq {seq}: {problem}")
        self.found.last = place

    def _compare_heads(self, columns: Mapping[str, Any]) -> None:
        seq, recorded_at = columns["seq"], columns["recorded_at"]
        expected = self._heads.get(seq)
        if expected is not None and columns["hash"] != expected:
            self._report(
                f"{_name(columns)}: is not the record the heads name, the chain was rewritten"
            )
        heads_at = self._rules.heads_at
        if heads_at is None or seq <= self._covered:
            return
        self.found.uncovered += 1
        since = self.found.uncovered_since
        self.found.uncovered_since = recorded_at if since is None else min(since, recorded_at)
        if recorded_at < heads_at - SLACK:
            self.found.early += 1
            if self.found.early == 1:
                self._report(
                    f"{_name(columns)}: was recorded at {format_time(recorded_at)}, before the "
                    f"newest heads of {format_time(heads_at)}, which do not have it: forged"
                )

    def _dependencies(self, columns: Mapping[str, Any]) -> Collection[str]:
        try:
            named = _PAYLOAD.decode(columns["payload"]).contents
            return referenced_contents({"contents": named}) if named else ()
        except (msgspec.DecodeError, LedgerError, RecursionError) as error:
            self._report(f"{_name(columns)}: its payload cannot be read, it was altered: {error}")
            return ()

    def _record(self, columns: Mapping[str, Any]) -> Record | None:
        try:
            payload = read_canonical(columns["payload"])
        except LedgerError as error:
            self._report(f"{_name(columns)}: {error}")
            return None
        # What is no object was reported with its dependencies.
        return Record(**{**columns, "payload": payload}) if isinstance(payload, dict) else None

    def _check_contents(self, dependants: Mapping[str, str]) -> None:
        there = present(self._connection, dependants)
        self._known |= there
        for sha256 in sorted(dependants.keys() - there):
            self._report(f"{dependants[sha256]}: content {sha256!r} it depends on is missing")

    def _report(self, problem: str) -> None:
        self.found.problems.add(problem)


def link_problem(before: Place, place: Place) -> str | None:
    """Why a record does not follow the one before it; None where it does."""
    if not isinstance(place.seq, int):
        return "seq is not a number, it was altered"
    if not isinstance(before.seq, int) or place.seq != before.seq + 1:
        return f"follows seq {before.seq}, records are missing or misplaced"
    if None not in (before.hash, place.previous_hash) and place.previous_hash != before.hash:
        return "previous_hash is not the hash of the record before"
    return None


def _name(columns: Mapping[str, Any]) -> str:
    return f"chain {columns['chain']!r} seq {columns['seq']} (id {columns['id']!r})"
