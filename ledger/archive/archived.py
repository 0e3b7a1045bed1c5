"""Compare an archive's files with the segments of a ledger, and read records from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ledger.archive.files import (
    Manifest,
    file_sha256,
    find_row,
    manifest_problems,
    read_manifests,
)
from ledger.archive.segments import Segment, read_segments
from ledger.audit.signing import Verifier
from ledger.canonical import read_canonical, sha256_hex
from ledger.records import FIRST_PREVIOUS_HASH, Record, record_hash
from ledger.schema import database_errors
from ledger.store import Ledger
from market.core.errors import AlteredError, LedgerError


def archive_problems(
    folder: Path,
    archived: Sequence[Segment],
    public_keys: Sequence[str],
    named: Mapping[str, Mapping[int, str]],
) -> Iterator[str]:
    """Problems of an archive: missing or altered files, and segments that differ.

    Parameters
    ----------
    folder:
        The archive.
    archived:
        Segments of the ledger.
    public_keys:
        Trusted keys; none: signatures are not checked.
    named:
        For each chain the hashes that heads name.
    """
    verifier = Verifier(public_keys) if public_keys else None
    manifests = {(m.chain, m.first_seq): m for m in read_manifests(folder)}
    before: dict[str, str] = {}
    for segment in archived:
        manifest = manifests.get((segment.chain, segment.first_seq))
        name = f"segment {segment.first_seq} to {segment.last_seq} of chain {segment.chain!r}"
        if manifest is None:
            yield f"{name} is not in the archive {str(folder)!r}"
            continue
        if not describes(manifest, segment):
            yield f"{name}: the manifest in the archive is of another segment"
            continue
        if manifest.previous_hash != before.get(segment.chain, FIRST_PREVIOUS_HASH):
            yield f"{name}: the archive's segment does not follow the one before it"
        before[segment.chain] = segment.last_hash
        yield from manifest_problems(folder, manifest, verifier, named.get(segment.chain))


def describes(manifest: Manifest, segment: Segment) -> bool:
    """Whether a manifest belongs to a segment."""
    return (manifest.last_seq, manifest.last_hash, manifest.file_sha256) == (
        segment.last_seq,
        segment.last_hash,
        segment.file_sha256,
    )


class ArchivedRecords:
    """Records and contents of a ledger, or of its archive once the ledger has deleted them.

    Parameters
    ----------
    ledger:
        Asked first.
    folder:
        The archive. Only files that a segment of the ledger names are read.

    Raises
    ------
    LedgerError
        The folder is no archive.
    """

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        with database_errors("read its segments"), ledger.engine.connect() as connection:
            archived = read_segments(connection)
        self._manifests = [
            manifest
            for manifest in read_manifests(folder)
            if any(describes(manifest, segment) for segment in archived)
        ]
        self._checked: set[str] = set()

    def get_record(self, id: str) -> Record:  # noqa: A002  the column's name
        """The record of this id.

        Raises
        ------
        LedgerError
            Neither has it.
        AlteredError
            It, or the file that holds it, is not what was recorded.
        """
        try:
            return self._ledger.get_record(id)
        except AlteredError:
            raise
        except LedgerError:
            for manifest in self._manifests:
                file = self._file(manifest.file, manifest.file_sha256)
                row = find_row(file, "id", id)
                if row is not None:
                    return _record(row)
            raise

    def get(self, sha256: str) -> dict[str, Any]:
        """A shared content; raises as `get_record`."""
        for manifest in self._manifests:
            file = self._file(manifest.contents_file, manifest.contents_sha256)
            row = find_row(file, "sha256", sha256)
            if row is None:
                continue
            if sha256_hex(row["content"].encode()) != sha256:
                raise AlteredError(f"archived content {sha256!r} does not match its SHA-256")
            value: dict[str, Any] = read_canonical(row["content"])
            return value
        return self._ledger.get(sha256)

    def _file(self, name: str, sha256: str) -> Path:
        path = self._folder / name
        if name not in self._checked:
            if file_sha256(path) != sha256:
                raise AlteredError(f"archive file {str(path)!r} is not the one that was sealed")
            self._checked.add(name)
        return path


def _record(row: dict[str, Any]) -> Record:
    if record_hash(row) != row["hash"]:
        raise AlteredError(f"archived record {row['id']!r} does not match its hash")
    return Record(**{**row, "payload": read_canonical(row["payload"])})
