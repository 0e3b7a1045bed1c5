"""Audit extract: all records of a span with what their hashes cover, to be checked outside.

The hash of a record is the SHA-256 of the canonical JSON of its columns, among them the SHA-256 of
its payload and the hash of the record before. So whoever holds the rows of a chain's slice can
check each hash, that every record follows the one before, and that the last hash is the head that
was published; docs/reports.md has a program of a few lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Column, Connection, func, or_, select

from ledger.archive.segments import Segment, last_segments, read_segments
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.following import ChainHead, SharedChain
from ledger.records import HASHED_COLUMNS, Record, hash_with_payload
from ledger.schema import database_errors, records
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import AlteredError, DataError
from monitoring.book.account_rows import CHAIN as ACCOUNTS
from pipelines.ledger_reports.formats.document import Cell, Report, Table
from pipelines.ledger_reports.request import ReportRequest, Span

COLUMNS = (*HASHED_COLUMNS, "payload_sha256", "hash", "payload")
"""Columns of the extract: what a record's hash covers, the hash, and the payload as canonical
JSON."""


@dataclass(frozen=True, slots=True)
class _ChainSlice:
    chain: str
    found: list[Record]


def audit_extract(ledger: Ledger, request: ReportRequest) -> Report:
    """The slice of every chain between its cuts at the start and at the end of a span.

    `Cuts` says which record belongs to which span. A slice begins right after the slice of the
    span before, so extracts of consecutive spans join hash to hash and together hold every record
    of the database once. Records that were moved to an archive are in its files.

    Raises
    ------
    DataError
        No chain has a record of the span in the database.
    AlteredError
        A record does not match its hash.
    """
    span = request.span
    cuts = Cuts(ledger, span)
    slices = [_slice(ledger, cuts, chain) for chain in cuts.chains]
    slices = [part for part in slices if part.found]
    if not slices:
        raise DataError(
            f"the ledger has no record between {format_time(span.start)} and "
            f"{format_time(span.end)}; choose another span, or read the archive if older records "
            "were moved there"
        )
    contents = {sha for part in slices for record in part.found for sha in _contents(record)}
    return Report(
        "audit-extract",
        f"Audit extract, {format_time(span.start)} to {format_time(span.end)}",
        {
            **span.facts(),
            "records": sum(len(part.found) for part in slices),
            "shared_contents": len(contents),
            "ruleset_sha256": ", ".join(sorted(_named(slices, "ruleset_sha256"))) or None,
            "model_sha256": ", ".join(sorted(_models(slices))) or None,
            **{f"head_{part.chain}_hash": part.found[-1].hash for part in slices},
            **{f"archived_{name}_seq": seq for name, seq in cuts.archived.items()},
        },
        (
            Table(
                "chains",
                "Slices of chains",
                (
                    *("chain", "first_seq", "last_seq", "records", "hash_before", "last_hash"),
                    "kinds",
                ),
                [
                    [
                        part.chain,
                        part.found[0].seq,
                        part.found[-1].seq,
                        len(part.found),
                        part.found[0].previous_hash,
                        part.found[-1].hash,
                        ", ".join(sorted({record.kind for record in part.found})),
                    ]
                    for part in slices
                ],
                "hash_before and last_hash join a slice to the slices around it and to the heads "
                "that are kept outside.",
            ),
            Table(
                "records",
                "Records",
                COLUMNS,
                [_row(record) for part in slices for record in part.found],
                "CSV and Parquet hold the payload of each record too.",
                frozenset({"payload", "previous_hash", "payload_sha256"}),
            ),
        ),
        "records",
    )


def _slice(ledger: Ledger, cuts: Cuts, name: str) -> _ChainSlice:
    """The records after the cut at the start of the span, up to the cut at its end."""
    start, end = cuts.of(name)
    found: list[Record] = []
    if start.seq < end:
        for record in SharedChain(ledger, name).after(start):
            if record.seq > end:
                break
            found.append(record)
    return _ChainSlice(name, found)


def _row(record: Record) -> list[Cell]:
    payload = canonical_bytes(record.payload)
    columns = {name: getattr(record, name) for name in HASHED_COLUMNS}
    digest = sha256_hex(payload)
    if hash_with_payload(columns, digest) != record.hash:
        raise AlteredError(
            f"record {record.id!r} has a payload that is not canonical; verify the ledger"
        )
    return [*columns.values(), digest, record.hash, payload.decode()]


def _contents(record: Record) -> Iterator[str]:
    named = record.payload.get("contents")
    if isinstance(named, dict):
        yield from (str(sha) for key, sha in named.items() if key.endswith("_sha256") and sha)
    elif isinstance(named, list):
        yield from map(str, named)


def _named(slices: list[_ChainSlice], key: str) -> set[str]:
    """SHA-256 that records name under a key, in their payload or its contents."""
    found: set[str] = set()
    for part in slices:
        for record in part.found:
            named = record.payload.get("contents")
            inner = named.get(key) if isinstance(named, dict) else None
            found |= {str(sha) for sha in (inner, record.payload.get(key)) if sha}
    return found


def _models(slices: list[_ChainSlice]) -> set[str]:
    return {
        str(record.payload["model"])
        for part in slices
        for record in part.found
        if record.payload.get("model")
    }


class Cuts:
    """The cuts of every chain at the start and at the end of a span.

    The cut of a chain at a time T is the number of the last record that belongs to times up to T::

        first(T) = first record with as_of > T, or the end of the chain
        cut(T)   = last record before first(T) that has an as_of or has recorded_at <= T

    `cut` does not fall with T. So a record without `as_of` counts at `recorded_at`, but not before
    the dated record before it and not after the next one that is later; a record whose `as_of` is
    earlier than that of a record before it counts with that one. A record of account updates has
    the time of its earliest update. A record that is appended with an `as_of` and a `recorded_at`
    after T moves no cut at T.

    Only records in the database count. Where a chain begins with archived segments, its cuts are
    not before the end of the newest one.

    Parameters
    ----------
    ledger:
        Where the chains are.
    span:
        Its times, nanoseconds.

    Raises
    ------
    LedgerError
        Here and in every method: the database failed, or records are missing or were altered.
    """

    def __init__(self, ledger: Ledger, span: Span) -> None:
        self._ledger, self._span = ledger, span
        with database_errors("read"), ledger.engine.connect() as connection:
            self._segments = last_segments(read_segments(connection))
            self.chains = list(_distinct(connection, records.c.chain))
            kinds = list(_distinct(connection, records.c.kind))
            self._later = {
                time: _first_later(connection, time, kinds, self._segments)
                for time in (span.start, span.end)
            }

    @cached_property
    def archived(self) -> dict[str, int]:
        """By chain, the last record of an archive that ends at or after the start of the span."""
        return {
            name: segment.last_seq
            for name, segment in self._segments.items()
            if self.of(name)[0].seq == segment.last_seq
        }

    def of(self, chain: str) -> tuple[ChainHead, int]:
        """The record that a chain's slice of the span follows, and the number of its last one."""
        if chain == ACCOUNTS:
            start, end = self._walked(chain)
        else:
            start, end = (self._cut(chain, time) for time in (self._span.start, self._span.end))
        segment = self._segments.get(chain)
        if segment is not None and start == segment.last_seq:
            return ChainHead(start, segment.last_hash), end
        return SharedChain(self._ledger, chain).before(start + 1), end

    def _cut(self, chain: str, time: int) -> int:
        begin = self._begin(chain)
        before = [records.c.chain == chain, records.c.seq > begin]
        first = self._later[time].get(chain)
        if first is not None:
            before.append(records.c.seq < first)
        newest = select(records.c.seq).order_by(records.c.seq.desc()).limit(1)
        dated = newest.where(*before, records.c.as_of.is_not(None))
        with database_errors("read"), self._ledger.engine.connect() as connection:
            last = int(connection.execute(dated).scalar() or begin)
            recorded = newest.where(*before, records.c.seq > last, records.c.recorded_at <= time)
            return int(connection.execute(recorded).scalar() or last)

    def _walked(self, chain: str) -> tuple[int, int]:
        """The cuts of the chain of accounts, whose times are in the payloads."""
        times = (self._span.start, self._span.end)
        cuts, passed = [0, 0], [False, False]
        for record in SharedChain(self._ledger, chain).after(ChainHead()):
            dated = _time(record)
            for i, time in enumerate(times):
                passed[i] = passed[i] or (dated is not None and dated > time)
                if not passed[i] and (dated is not None or record.recorded_at <= time):
                    cuts[i] = record.seq
            if all(passed):
                break
        return cuts[0], cuts[1]

    def _begin(self, chain: str) -> int:
        segment = self._segments.get(chain)
        return 0 if segment is None else segment.last_seq


def _distinct(connection: Connection, column: Column[str]) -> Iterator[str]:
    """The values of the first column of an index, one look-up each."""
    value = connection.execute(select(func.min(column))).scalar()
    while value is not None:
        yield value
        value = connection.execute(select(func.min(column)).where(column > value)).scalar()


def _first_later(
    connection: Connection, time: int, kinds: Sequence[str], archives: Mapping[str, Segment]
) -> dict[str, int]:
    """By chain, its first record after the archived ones that is later than a time.

    Read from the index of `as_of`: it costs what is later, not what the ledger holds.
    """
    rest = [
        or_(records.c.chain != name, records.c.seq > segment.last_seq)
        for name, segment in archives.items()
    ]
    found: dict[str, int] = {}
    for kind in kinds:
        query = select(records.c.chain, func.min(records.c.seq)).where(
            records.c.kind == kind, records.c.as_of > time, *rest
        )
        for chain, seq in connection.execute(query.group_by(records.c.chain)):
            found[chain] = min(seq, found.get(chain, seq))
    return found


def _time(record: Record) -> int | None:
    if record.as_of is not None:
        return record.as_of
    updates = record.payload.get("updates")
    if isinstance(updates, list):
        return min((int(update["as_of"]) for update in updates if "as_of" in update), default=None)
    return None
