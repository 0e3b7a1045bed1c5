"""Retention: move old decisions from the database to files without losing any.

For each chain, in this order: its records before a time are written to files with the contents they
depend on, the files are read back and checked, one transaction adds a record of kind ``archive``
and a row of ``segments``, and only then rows are deleted, a few thousand at a time. If a run is
interrupted between any two steps, the records are in the database, in the files or in both, and the
next run continues from there.

Only decisions, shadow decisions and records of answers leave the database. What start-up needs
stays: the newest decision of each account, whose add-on is in force, records of answers that may be
requested again, and records of every other kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from ledger.archive.archived import describes
from ledger.archive.files import (
    Manifest,
    manifest_problems,
    read_manifests,
    read_rows,
    segment_name,
    write_contents,
    write_manifest,
    write_records,
)
from ledger.archive.segments import ARCHIVE, Segment, last_segments, read_segments
from ledger.audit.signing import Signer
from ledger.chain import extend, to_record, unpacked_row
from ledger.contents import checked_text, put
from ledger.idempotency import ANSWER
from ledger.packing.identifiers import unpack_sha256
from ledger.records import FIRST_PREVIOUS_HASH, Entry, record_hash, referenced_contents
from ledger.schema import answers, contents, in_batches, records, segments
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import BusyError, LedgerError
from market.core.file_lock import exclusive_lock

ARCHIVED_KINDS = ("decision", "shadow", ANSWER)
"""Kinds of records that leave the database."""

_BATCH = 2_000
_LOCK = ".archive.lock"


@dataclass(frozen=True, slots=True)
class Archived:
    """A chain with an archive: its newest segment, and rows deleted from the table now."""

    segment: Segment
    deleted: int


class Span(NamedTuple):
    """Records of a chain that are moved together."""

    chain: str
    first_seq: int
    last_seq: int


class Archiver:
    """Moves old records of a ledger to an archive.

    Parameters
    ----------
    ledger:
        The ledger; others may record meanwhile.
    folder:
        The archive; created if missing. All segments of a ledger belong in one folder.
    signer:
        Signs the manifests; None leaves them unsigned.

    Raises
    ------
    LedgerError
        In every method: the database failed, a file cannot be written, or what was read back is
        not what was recorded; then no row is deleted.
    """

    def __init__(self, ledger: Ledger, folder: Path, signer: Signer | None = None) -> None:
        self._ledger = ledger
        self._folder = folder
        self._signer = signer

    def run(self, before: int) -> tuple[dict[str, Archived], int]:
        """Archive what was recorded before a time.

        Parameters
        ----------
        before:
            UTC nanoseconds.

        Returns
        -------
        What was done for each chain, and how many contents were deleted.

        Raises
        ------
        LedgerError
            Another run works in the folder, or it has records that this ledger lacks, as after the
            restore of an earlier backup; then nothing was written or deleted.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            # Two runs at once could replace each other's files after they were sealed.
            with exclusive_lock(str(self._folder / _LOCK), 0.0):
                return self._run(before)
        except BusyError as error:
            raise LedgerError(
                f"another run archives into {str(self._folder)!r}; wait until it has ended"
            ) from error

    def _run(self, before: int) -> tuple[dict[str, Archived], int]:
        self._check_folder()
        with self._ledger.engine.connect() as connection:
            chains = list(connection.execute(select(records.c.chain).distinct()).scalars())
        done: dict[str, Archived] = {}
        for chain in sorted(chains):
            span = self.plan(chain, before)
            if span is not None:
                manifest = self.write(span)
                self.check(manifest)
                self.seal(manifest)
            last = self._last(chain)
            if last is not None:
                done[chain] = Archived(last, self.delete_rows(last))
        return done, self.delete_contents() if done else 0

    def plan(self, chain: str, before: int) -> Span | None:
        """First and last record of a chain to archive; None where there is nothing to move."""
        last = self._last(chain)
        start = 0 if last is None else last.last_seq
        mine = records.c.chain == chain
        ends = select(func.max(records.c.seq)).where(mine)
        with self._ledger.engine.connect() as connection:
            # The last record stays, so that the chain's end is always in the table.
            newest = connection.execute(ends).scalar_one()
            found = ends.where(records.c.recorded_at < before, records.c.seq < newest)
            end = connection.execute(found).scalar_one()
            if end is None or end <= start:
                return None
            moved = select(func.count()).where(
                mine,
                records.c.seq > start,
                records.c.seq <= end,
                records.c.kind.in_(ARCHIVED_KINDS),
            )
            return Span(chain, start + 1, end) if connection.execute(moved).scalar_one() else None

    def write(self, span: Span) -> Manifest:
        """Write the files of a segment; its records are checked as they are read."""
        last = self._last(span.chain)
        previous = FIRST_PREVIOUS_HASH if last is None else last.last_hash
        name = segment_name(span.chain, span.first_seq)
        walk = _Reading(self._ledger, span, previous)
        file_sha256 = write_records(self._folder / f"{name}.parquet", walk.rows())
        needed = sorted(walk.contents)
        contents_file = f"{name}-contents.parquet"
        contents_sha256 = write_contents(self._folder / contents_file, self._contents(needed))
        manifest = Manifest(
            chain=span.chain,
            first_seq=span.first_seq,
            last_seq=span.last_seq,
            previous_hash=previous,
            last_hash=walk.hash,
            file=f"{name}.parquet",
            file_sha256=file_sha256,
            contents_file=contents_file,
            contents_sha256=contents_sha256,
            contents=len(needed),
            sealed_at=format_time(time.time_ns()),
        )
        write_manifest(self._folder, manifest, self._signer)
        return manifest

    def check(self, manifest: Manifest) -> None:
        """Read the files back; raises `LedgerError` unless they hold what was recorded."""
        for problem in manifest_problems(self._folder, manifest):
            raise LedgerError(f"{problem}; no record was deleted, check the disk and archive again")

    def seal(self, manifest: Manifest) -> None:
        """Record in the chain and in the table of segments that the files hold a segment."""
        chain, end = manifest.chain, manifest.last_seq
        segment = Segment(chain, manifest.first_seq, end, manifest.last_hash, manifest.file_sha256)
        # What may be deleted now may be deleted later, so the transaction need not check again.
        with self._ledger.engine.connect() as connection:
            kept = [
                [seq, unpack_sha256(hash_)]
                for seq, hash_ in connection.execute(_needed(chain, end))
            ]
        row = {
            "chain": chain,
            "first_seq": segment.first_seq,
            "last_seq": end,
            "last_hash": bytes.fromhex(segment.last_hash),
            "file_sha256": bytes.fromhex(segment.file_sha256),
            "sealed_at": time.time_ns(),
        }
        with self._ledger.transaction() as connection:
            (kept_sha256,) = put(connection, [("kept", {"records": kept})])
            extend(connection, chain, [Entry(ARCHIVE, segment.payload(kept_sha256))])
            connection.execute(insert(segments), row)

    def delete_rows(self, last: Segment) -> int:
        """Delete the archived rows of a chain's segments; returns how many.

        Each row is compared with the file it is in.
        """
        kept = self._kept(last.chain)
        deleted = 0
        for manifest in self._manifests():
            if manifest.chain != last.chain:
                continue
            span = Span(manifest.chain, manifest.first_seq, manifest.last_seq)
            if not self._rows_to_delete(span, kept):
                continue
            self.check(manifest)  # again: the files may be those of an earlier, interrupted run
            hashes: dict[int, str] = {}
            for row in read_rows(self._folder / manifest.file, ["seq", "hash"]):
                hashes[row["seq"]] = row["hash"]
                if len(hashes) == _BATCH:
                    deleted += self._delete(manifest.chain, hashes, kept)
                    hashes = {}
            deleted += self._delete(manifest.chain, hashes, kept)
        return deleted

    def delete_contents(self) -> int:
        """Delete contents that only archived records depend on; returns how many."""
        archived: set[str] = set()
        for manifest in self._manifests():
            path = self._folder / manifest.contents_file
            archived.update(row["sha256"] for row in read_rows(path, ["sha256"]))
        reached: dict[str, int] = {}
        with self._ledger.engine.connect() as connection:
            archived -= _referenced(connection, reached)
        deleted = 0
        for batch in in_batches(archived):
            with self._ledger.transaction() as connection:
                if connection.dialect.name == "postgresql":
                    # A writer that found a content present has recorded what depends on it by then.
                    connection.execute(text("LOCK TABLE contents IN ACCESS EXCLUSIVE MODE"))
                unused = set(batch) - _referenced(connection, reached)
                names = [bytes.fromhex(sha256) for sha256 in sorted(unused)]
                gone = delete(contents).where(contents.c.sha256.in_(names))
                deleted += connection.execute(gone).rowcount
        return deleted

    def _delete(self, chain: str, hashes: Mapping[int, str], kept: Mapping[int, str]) -> int:
        if not hashes:
            return 0
        mine = records.c.chain == chain
        within = records.c.seq.between(min(hashes), max(hashes))
        with self._ledger.transaction() as connection:
            found = connection.execute(select(records.c.seq, records.c.hash).where(mine, within))
            gone: list[int] = []
            for seq, hash_ in found:
                if seq in kept:
                    continue
                if hashes.get(seq) != bytes(hash_).hex():
                    raise LedgerError(
                        f"chain {chain!r} seq {seq} is not the record that was archived; it was "
                        "altered, `margincast ledger verify` says more"
                    )
                gone.append(seq)
            if gone:
                connection.execute(delete(records).where(mine, records.c.seq.in_(gone)))
        return len(gone)

    def _rows_to_delete(self, span: Span, kept: Mapping[int, str]) -> bool:
        within = records.c.seq.between(span.first_seq, span.last_seq)
        count = select(func.count()).where(records.c.chain == span.chain, within)
        staying = sum(span.first_seq <= seq <= span.last_seq for seq in kept)
        with self._ledger.engine.connect() as connection:
            return connection.execute(count).scalar_one() > staying

    def _check_folder(self) -> None:
        """Refuse a folder whose files hold other records than this ledger: the next segment could
        replace the only copy of them."""
        with self._ledger.engine.connect() as connection:
            sealed = read_segments(connection)
            for manifest in read_manifests(self._folder):
                if any(describes(manifest, segment) for segment in sealed):
                    continue
                # Of a run that was cut off; its records are in the table still.
                place = (records.c.chain == manifest.chain, records.c.seq == manifest.last_seq)
                found = connection.execute(
                    select(records.c.hash).where(*place)
                ).scalar_one_or_none()
                if found is None or bytes(found).hex() != manifest.last_hash:
                    name = segment_name(manifest.chain, manifest.first_seq)
                    raise LedgerError(
                        f"the archive {str(self._folder)!r} has records {manifest.first_seq} to "
                        f"{manifest.last_seq} of chain {manifest.chain!r} that this ledger lacks; "
                        f"after the restore of an earlier backup keep the files {name}* elsewhere "
                        "and archive again, else give the archive of this ledger"
                    )

    def _manifests(self) -> list[Manifest]:
        """The manifests of the ledger's segments; an interrupted run leaves files without one."""
        with self._ledger.engine.connect() as connection:
            sealed = read_segments(connection)
        found = read_manifests(self._folder)
        return [m for m in found if any(describes(m, segment) for segment in sealed)]

    def _last(self, chain: str) -> Segment | None:
        with self._ledger.engine.connect() as connection:
            return last_segments(read_segments(connection)).get(chain)

    def _kept(self, chain: str) -> dict[int, str]:
        query = select(records).where(records.c.chain == chain, records.c.kind == ARCHIVE)
        with self._ledger.engine.connect() as connection:
            row = connection.execute(query.order_by(records.c.seq.desc()).limit(1)).one()
        content = self._ledger.get(to_record(row).payload["contents"]["kept_sha256"])
        return {int(seq): hash_ for seq, hash_ in content["records"]}

    def _contents(self, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
        for batch in in_batches(needed, 50):
            names = [bytes.fromhex(sha256) for sha256 in batch]
            query = select(contents).where(contents.c.sha256.in_(names))
            with self._ledger.engine.connect() as connection:
                for row in connection.execute(query):
                    sha256 = unpack_sha256(row.sha256)
                    content = checked_text(sha256, row.content).decode()
                    yield {"sha256": sha256, "kind": row.kind, "content": content}


class _Reading:
    """Reads the records of a segment in order, each checked; collects the contents they name."""

    def __init__(self, ledger: Ledger, span: Span, previous: str) -> None:
        self.contents: set[str] = set()
        self.hash = previous
        self._ledger = ledger
        self._span = span

    def rows(self) -> Iterator[dict[str, Any]]:
        span, seq = self._span, self._span.first_seq - 1
        while seq < span.last_seq:
            query = (
                select(records)
                .where(records.c.chain == span.chain)
                .where(records.c.seq > seq, records.c.seq <= span.last_seq)
            )
            with self._ledger.engine.connect() as connection:
                page = connection.execute(query.order_by(records.c.seq).limit(_BATCH)).all()
            for row in page:
                columns = unpacked_row(row._mapping)
                hash_ = record_hash(columns)
                if (
                    columns["seq"] != seq + 1
                    or columns["previous_hash"] != self.hash
                    or columns["hash"] != hash_
                ):
                    raise LedgerError(
                        f"chain {span.chain!r} is not intact at seq {seq + 1}, nothing was "
                        "archived; `margincast ledger verify` says more"
                    )
                seq, self.hash = seq + 1, hash_
                self.contents.update(referenced_contents(to_record(row).payload))
                yield columns
            if not page:
                raise LedgerError(f"chain {span.chain!r} ends at seq {seq}; nothing was archived")


def _needed(chain: str, end: int) -> Select[Any]:
    """Seq and hash of the records up to `end` that stay in the table."""
    newer = records.alias()
    is_newest = ~exists().where(
        newer.c.kind == literal_column("'decision'"),
        newer.c.account_id == records.c.account_id,
        tuple_(newer.c.recorded_at, newer.c.seq, newer.c.chain)
        > tuple_(records.c.recorded_at, records.c.seq, records.c.chain),
    )
    may_be_asked = exists().where(answers.c.record_id == records.c.id)
    return (
        select(records.c.seq, records.c.hash)
        .where(
            records.c.chain == chain,
            records.c.seq <= end,
            or_(
                records.c.kind.not_in(ARCHIVED_KINDS),
                (records.c.kind == "decision") & is_newest,
                (records.c.kind == ANSWER) & may_be_asked,
            ),
        )
        .order_by(records.c.seq)
    )


def _referenced(connection: Connection, reached: dict[str, int]) -> set[str]:
    """Contents that records after `reached` name."""
    found: set[str] = set()
    chains = connection.execute(select(records.c.chain).distinct()).scalars().all()
    for chain in chains:
        query = select(records).where(records.c.chain == chain).order_by(records.c.seq)
        if chain in reached:
            query = query.where(records.c.seq > reached[chain])
        for row in connection.execute(query, execution_options={"yield_per": _BATCH}):
            found.update(referenced_contents(to_record(row).payload))
            reached[chain] = row.seq
    return found
