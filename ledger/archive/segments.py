"""Archived segments: beginnings of chains that were moved to files, and where the rest begins.

The table ``segments`` states where the rest begins. A record of kind ``archive``, appended to the
chain itself when a segment is sealed, says the same under the chain's hashes, and names the records
of the segment that stay in the table: the newest decision of an account is still in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from ledger.packing.identifiers import unpack_sha256
from ledger.records import Record
from ledger.schema import segments
from market.core.errors import AlteredError

ARCHIVE = "archive"
"""Kind of the record of an archived segment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A row of `ledger.schema.segments`, its hashes in hexadecimal."""

    chain: str
    first_seq: int
    last_seq: int
    last_hash: str
    file_sha256: str

    def payload(self, kept_sha256: str) -> dict[str, Any]:
        """What its record says; `kept_sha256` names the content of what stays in the table."""
        return {
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "last_hash": self.last_hash,
            "file_sha256": self.file_sha256,
            "contents": {"kept_sha256": kept_sha256},
        }


def read_segments(connection: Connection) -> list[Segment]:
    """All segments, those of a chain in their order.

    Raises
    ------
    AlteredError
        A row holds what was never written there.
    """
    query = select(segments).order_by(segments.c.chain, segments.c.first_seq)
    return [_segment(row) for row in connection.execute(query)]


def _segment(row: Row[Any]) -> Segment:
    chain, first, last = row.chain, row.first_seq, row.last_seq
    if not (isinstance(chain, str) and isinstance(first, int) and isinstance(last, int)):
        raise AlteredError(f"segment {first!r} to {last!r} of chain {chain!r}: it was altered")
    return Segment(chain, first, last, unpack_sha256(row.last_hash), unpack_sha256(row.file_sha256))


def last_segments(found: Sequence[Segment]) -> dict[str, Segment]:
    """The newest segment of each chain; the rows of the chain follow it."""
    return {segment.chain: segment for segment in found}


def newest_archive_records(written: Sequence[Record]) -> dict[str, Record]:
    """The newest ``archive`` record of each chain."""
    found: dict[str, Record] = {}
    for record in written:
        if record.kind == ARCHIVE and (
            record.chain not in found or record.seq > found[record.chain].seq
        ):
            found[record.chain] = record
    return found


def segment_problems(found: Sequence[Segment], written: Sequence[Record]) -> Iterator[str]:
    """Segments that differ from the ``archive`` records of their chain."""
    said: dict[tuple[str, int], dict[str, Any]] = {}
    for record in written:
        if record.kind != ARCHIVE:
            continue
        first = record.payload.get("first_seq")
        if isinstance(first, int):
            said[record.chain, first] = record.payload
        else:
            yield f"chain {record.chain!r} seq {record.seq} archives from {first!r}: forged"
    end: dict[str, int] = {}
    for segment in found:
        name = f"segment {segment.first_seq} to {segment.last_seq} of chain {segment.chain!r}"
        payload = said.pop((segment.chain, segment.first_seq), None)
        if payload is None:
            yield f"{name} has no record on the chain: records were deleted, not archived"
        elif {key: value for key, value in payload.items() if key != "contents"} != {
            key: value for key, value in segment.payload("").items() if key != "contents"
        }:
            yield f"{name} is not what its record on the chain says: it was altered"
        if segment.first_seq != end.get(segment.chain, 0) + 1:
            yield f"{name} does not follow the segment before it"
        end[segment.chain] = segment.last_seq
    for chain, first in sorted(said, key=str):
        yield f"chain {chain!r} says that a segment from {first} was archived; its row is missing"


def left_behind_problems(
    chain: str, hashes: Mapping[int, str], kept: Mapping[int, str]
) -> Iterator[str]:
    """Records of an archived segment that should have stayed in the table, or should not.

    Parameters
    ----------
    chain:
        The chain.
    hashes:
        Hash of each record of the segment that is in the table, by its ``seq``.
    kept:
        The same as the newest ``archive`` record names them.
    """
    for seq in sorted(kept.keys() - hashes.keys()):
        yield f"chain {chain!r} seq {seq} is missing, it was to stay in the table"
    for seq in sorted(kept.keys() & hashes.keys()):
        if kept[seq] != hashes[seq]:
            yield f"chain {chain!r} seq {seq} is not the record that was to stay in the table"
    extra = sorted(hashes.keys() - kept.keys())
    if extra:
        yield (
            f"chain {chain!r} has {len(extra)} records in the table that were archived (seq "
            f"{extra[0]} is the first): archiving was cut off, run `margincast ledger archive` "
            "again; or they were put there"
        )
