"""Verification: read a whole ledger and report whether it is what was recorded.

A chain by itself proves that nothing inside it was altered, deleted, inserted or reordered. Only
heads kept elsewhere prove that it was neither truncated nor rewritten with new hashes
(`ledger.audit.heads_series`). Keys, answers and the structure of the database are compared with
the chains.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from ledger.archive.archived import archive_problems
from ledger.archive.segments import (
    Segment,
    last_segments,
    left_behind_problems,
    newest_archive_records,
    read_segments,
    segment_problems,
)
from ledger.audit.answer_check import rows_without_record
from ledger.audit.coverage import (
    Coverage,
    age_problems,
    coverage,
    head_problems,
    not_covered_note,
)
from ledger.audit.heads import Heads, engine_of
from ledger.audit.heads_series import KeptHeads
from ledger.audit.key_check import KIND as KEYS, KeyCheck
from ledger.audit.slices import join_problems, slices, walk_all
from ledger.audit.structure import structure_problems
from ledger.audit.walk import MOST_PROBLEMS, Problems, Rules, Walked
from ledger.contents import checked_text, get
from ledger.packing.identifiers import unpack_sha256
from ledger.records import FIRST_PREVIOUS_HASH, Record
from ledger.schema import contents, database_errors
from market.core.errors import AlteredError, LedgerError

_CHUNK = 500
_MOST_KEYS = 20


@dataclass(frozen=True, slots=True)
class ChainState:
    """What was found of a chain: how many records, and the hash of the last one."""

    records: int
    head: str


@dataclass(frozen=True, slots=True)
class Checks:
    """What `verify` does beyond the chains.

    Attributes
    ----------
    answers_kept:
        Answers that were recorded in this many last nanoseconds must be in their table; None: any
        may have been pruned.
    longest_uncovered:
        Longest time in nanoseconds for which heads, and records without heads, may be old; None:
        any. Counts with heads only.
    archive:
        Folder of the archived segments; None: they are not read.
    public_keys:
        Trusted keys of the archive's manifests; none: signatures are not checked.
    workers:
        Processes; None: one a processor where there are many records.
    """

    answers_kept: int | None = None
    longest_uncovered: int | None = None
    archive: Path | None = None
    public_keys: Sequence[str] = ()
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of `verify`.

    Attributes
    ----------
    intact:
        Whether no problem was found.
    chains:
        State of each chain by name; records in the table, without those of archived segments.
    problems:
        What is wrong and where, the first hundred, then how many more.
    coverage:
        How far the heads reach; None without heads.
    notes:
        What could not be checked, and what is not covered yet.
    """

    intact: bool
    chains: dict[str, ChainState]
    problems: list[str]
    coverage: Coverage | None = None
    notes: list[str] = field(default_factory=list)


def verify(
    source: str | Engine,
    heads: Heads | KeptHeads | None = None,
    checks: Checks | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Check every record and every content of a ledger, in bounded memory.

    Found without heads: an altered column or payload, a deleted, inserted or reordered record, a
    content that was altered, or is missing though a record depends on it; an answer or an API key
    that is not what the chains say; a table, column, index, view or trigger that was added or
    dropped. Found with heads as well: a truncated or missing chain, one rewritten with fresh
    hashes, and records that claim a time before the heads and are not in them. Archived segments
    are then a problem unless they are read (`Checks.archive`): a forged one could stand for
    records that were deleted.

    Parameters
    ----------
    source:
        URL or engine of the ledger; nothing is created or changed there.
    heads:
        Heads kept from an earlier time; chains that grew since are fine.
    checks:
        What else is checked.
    progress:
        Called with the number of records read so far.

    Raises
    ------
    LedgerError
        There is no ledger there, its database cannot be opened, or records were archived
        meanwhile. Data that cannot be read once it is open are a problem of the ledger, not an
        error.

    References
    ----------
    Crosby and Wallach (2009), Efficient data structures for tamper-evident logging.
    """
    kept = heads if isinstance(heads, KeptHeads) or heads is None else KeptHeads([heads])
    audit = _Audit(kept, checks or Checks())
    with engine_of(source) as engine, database_errors("open its database"):
        audit.run(engine, progress)
    return audit.verdict()


@dataclass(slots=True)
class _Audit:
    heads: KeptHeads | None
    checks: Checks
    problems: Problems = field(default_factory=Problems)
    notes: list[str] = field(default_factory=list)
    found: list[Walked] = field(default_factory=list)
    coverage: Coverage | None = None

    def run(self, engine: Engine, progress: Callable[[int], None] | None) -> None:
        if self.heads is not None:
            self.report(self.heads.problems)
        with engine.connect() as connection:
            self.report(structure_problems(connection))
            archived = self.segments(connection)
            ends = last_segments(archived)
            parts = slices(connection, ends)
        # Contents after records: those of a ledger that is being written are there before them.
        for walked in walk_all(engine, parts, self.rules(), self.checks.workers, progress):
            self.problems.extend(walked.problems)
            self.found.append(walked)
        self.report(join_problems(self.found, ends))
        with engine.connect() as connection:
            self.check_contents(connection)
            self.check_tables(connection)
            self.check_segments(connection, archived)
            if self.segments(connection) != archived:
                raise LedgerError(
                    "records were archived while the ledger was verified; verify again"
                )
        if self.heads is not None:
            self.check_heads(self.heads, ends)

    def segments(self, connection: Connection) -> list[Segment]:
        try:
            return read_segments(connection)
        except (SQLAlchemyError, AlteredError) as error:
            self.problems.add(f"segments could not be read: {error}")
            return []

    def rules(self) -> Rules:
        kept = self.checks.answers_kept
        since = None if kept is None else time.time_ns() - kept
        if self.heads is None:
            return Rules(answers_since=since)
        covered = {chain: head["seq"] for chain, head in self.heads.ends().items()}
        return Rules(self.heads.hashes(), covered, self.heads.newest_at, since)

    def check_contents(self, connection: Connection) -> None:
        try:
            for row in connection.execute(
                select(contents.c.sha256, contents.c.content),
                execution_options={"yield_per": _CHUNK},
            ):
                try:
                    checked_text(unpack_sha256(row.sha256), row.content)
                except LedgerError as error:
                    self.problems.add(str(error))
        except SQLAlchemyError as error:
            self.problems.add(f"contents could not be read to their end: {error}")

    def check_tables(self, connection: Connection) -> None:
        matched = sum(walked.answers for walked in self.found)
        keys = KeyCheck()
        for record in sorted(self.kept_records(), key=lambda r: (r.recorded_at, r.chain, r.seq)):
            keys.add(record)
        try:
            self.report(rows_without_record(connection, matched))
            self.report(keys.problems(connection))
        except SQLAlchemyError as error:
            self.problems.add(f"answers and API keys could not be read: {error}")
        if keys.unproven:
            self.notes.append(
                f"{len(keys.unproven)} API keys were made by an earlier version, their secrets "
                f"are not on the chain and not checked: {', '.join(keys.unproven[:5])}"
            )

    def check_segments(self, connection: Connection, archived: Sequence[Segment]) -> None:
        written = self.kept_records()
        self.report(segment_problems(archived, written))
        newest = newest_archive_records(written)
        for walked in self.found:
            chain = walked.part.chain
            if not walked.part.linked and chain in newest:
                try:
                    kept = _kept(connection, newest[chain])
                except LedgerError as error:
                    self.problems.add(f"chain {chain!r}: {error}")
                except (KeyError, TypeError, ValueError):
                    self.problems.add(
                        f"chain {chain!r} seq {newest[chain].seq}: it does not name what stays of "
                        "an archived segment, it was forged"
                    )
                else:
                    self.report(left_behind_problems(chain, walked.hashes, kept))
        if not archived:
            return
        if self.checks.archive is None:
            sealed = sum(segment.last_seq - segment.first_seq + 1 for segment in archived)
            unread = f"{sealed} records are archived and were not read"
            if self.heads is None:
                self.notes.append(f"{unread}; --archive DIR checks them too")
            else:
                # An attacker who deletes records can also insert a segment: only its file shows
                # that they are what the heads cover.
                self.problems.add(
                    f"{unread}: heads cannot tell archived records from deleted ones; check the "
                    "files with --archive DIR"
                )
        else:
            named = self.heads.hashes() if self.heads is not None else {}
            self.report(
                archive_problems(self.checks.archive, archived, self.checks.public_keys, named)
            )

    def check_heads(self, kept: KeptHeads, ends: Mapping[str, Segment]) -> None:
        self.report(head_problems(kept, self.found, ends))
        self.coverage = coverage(kept, self.found)
        if self.checks.longest_uncovered is not None:
            self.report(age_problems(self.coverage, self.checks.longest_uncovered))
        note = not_covered_note(self.coverage)
        if note is not None:
            self.notes.append(note)
        covered = kept.ends()
        added = [
            f"{record.payload.get('key_id')!r} (scopes {record.payload.get('scopes')!r})"
            for record in self.kept_records()
            if record.kind == KEYS
            and record.payload.get("action") == "add"
            and (record.chain not in covered or record.seq > covered[record.chain]["seq"])
        ]
        if added:
            shown = ", ".join(added[:_MOST_KEYS])
            self.notes.append(f"{len(added)} API keys were added since the heads: {shown}")
        if kept.signed is None:
            self.notes.append("signatures of the heads were not checked, no public key is known")

    def kept_records(self) -> list[Record]:
        return [record for walked in self.found for record in walked.kept]

    def report(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self.problems.add(problem)

    def verdict(self) -> Verification:
        states: dict[str, ChainState] = {}
        for walked in self.found:
            chain = str(walked.part.chain)  # SQLite takes other types
            before = states.get(chain, ChainState(0, FIRST_PREVIOUS_HASH))
            head = before.head if walked.last is None else walked.last.hash or ""
            states[chain] = ChainState(before.records + walked.count, head)
        listed = self.problems.listed[:MOST_PROBLEMS]
        more = self.problems.count - len(listed)
        return Verification(
            intact=self.problems.count == 0,
            chains=states,
            problems=[*listed, f"and {more} more"] if more else listed,
            coverage=self.coverage,
            notes=self.notes,
        )


def _kept(connection: Connection, record: Record) -> dict[int, str]:
    """Records of a segment that stay in the table, as its ``archive`` record names them."""
    content = get(connection, record.payload["contents"]["kept_sha256"])
    return {int(seq): hash_ for seq, hash_ in content["records"]}
