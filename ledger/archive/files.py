"""Files of an archived segment: records and contents in parquet, and a manifest of both.

A segment is whole by itself: every record of its part of the chain, in order and with its hashes,
and every content that they depend on. Texts are the canonical JSON that was hashed, so any reader
of parquet and any SHA-256 can check them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger.audit.signing import Signer, Verifier
from ledger.canonical import sha256_hex
from ledger.records import record_hash
from market.core.errors import LedgerError
from market.core.files import replace_file, sync_path

COMPRESSION = "zstd"
BATCH = 2_000
"""Rows that are in memory at a time."""

_FORMAT = 1
_RECORDS = pa.schema(
    [
        ("chain", pa.string()),
        ("seq", pa.int64()),
        ("id", pa.string()),
        ("kind", pa.string()),
        ("account_id", pa.string()),
        ("as_of", pa.int64()),
        ("recorded_at", pa.int64()),
        ("payload", pa.string()),
        ("previous_hash", pa.string()),
        ("hash", pa.string()),
    ]
)
_CONTENTS = pa.schema([("sha256", pa.string()), ("kind", pa.string()), ("content", pa.string())])


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a segment's files hold.

    Attributes
    ----------
    chain, first_seq, last_seq:
        Which records.
    previous_hash, last_hash:
        Hash of the record before the first one, and of the last one.
    file, file_sha256:
        Name and SHA-256 of the file of records.
    contents_file, contents_sha256, contents:
        The same of the file of contents, and how many it holds.
    sealed_at:
        When it was made, ISO 8601.
    public_key, signature:
        See `ledger.audit.signing`.
    """

    chain: str
    first_seq: int
    last_seq: int
    previous_hash: str
    last_hash: str
    file: str
    file_sha256: str
    contents_file: str
    contents_sha256: str
    contents: int
    sealed_at: str
    format: int = _FORMAT
    public_key: str | None = None
    signature: str | None = None


def segment_name(chain: str, first_seq: int) -> str:
    """Name of a segment's files, without their endings."""
    return f"{quote(chain, safe='')}-{first_seq:012d}"


def write_records(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write records, whole or not at all; returns the SHA-256 of the file."""
    return _write(path, _RECORDS, rows)


def write_contents(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write contents, whole or not at all; returns the SHA-256 of the file."""
    return _write(path, _CONTENTS, rows)


def write_manifest(folder: Path, manifest: Manifest, signer: Signer | None) -> None:
    """Write the manifest of a segment, signed where a signer is given."""
    document = {"format": manifest.format, **msgspec.to_builtins(manifest)}
    if signer is not None:
        document = signer.sign(document)
    path = folder / f"{segment_name(manifest.chain, manifest.first_seq)}.json"
    replace_file(path, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def read_manifests(folder: Path) -> list[Manifest]:
    """The manifests of an archive.

    Raises
    ------
    LedgerError
        There is no such folder, or a manifest cannot be read.
    """
    if not folder.is_dir():
        raise LedgerError(f"there is no archive in {str(folder)!r}; give the folder of its files")
    found: list[Manifest] = []
    for path in sorted(folder.glob("*.json")):
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise LedgerError(f"{str(path)!r} is not a readable manifest: {error}") from error
        if manifest.format != _FORMAT:
            raise LedgerError(f"{str(path)!r} has format {manifest.format}, not {_FORMAT}")
        found.append(manifest)
    return found


def manifest_problems(
    folder: Path,
    manifest: Manifest,
    verifier: Verifier | None = None,
    named: Mapping[int, str] | None = None,
) -> Iterator[str]:
    """What is wrong with the files of a segment: every hash is computed again.

    Parameters
    ----------
    folder:
        Of the archive.
    manifest:
        Of the segment.
    verifier:
        Checks its signature.
    named:
        Hashes that heads name, by ``seq``.
    """
    name = f"archived segment {manifest.first_seq} of chain {manifest.chain!r}"
    if verifier is not None:
        document = {"format": manifest.format, **msgspec.to_builtins(manifest)}
        wrong = verifier.problem(document)
        if wrong is not None:
            yield f"{name}: manifest: {wrong}"
    for file, sha256 in (
        (manifest.file, manifest.file_sha256),
        (manifest.contents_file, manifest.contents_sha256),
    ):
        try:
            if file_sha256(folder / file) != sha256:
                yield f"{name}: file {file!r} is not the one of the manifest, it was altered"
                return
        except OSError as error:
            yield f"{name}: file {file!r} cannot be read ({error.strerror})"
            return
    yield from (f"{name}: {problem}" for problem in _record_problems(folder, manifest, named or {}))
    yield from (f"{name}: {problem}" for problem in _content_problems(folder, manifest))


def _record_problems(folder: Path, manifest: Manifest, named: Mapping[int, str]) -> Iterator[str]:
    seq, previous = manifest.first_seq - 1, manifest.previous_hash
    for row in read_rows(folder / manifest.file):
        if row["chain"] != manifest.chain or row["seq"] != seq + 1:
            yield f"seq {row['seq']} follows {seq}"
        elif row["previous_hash"] != previous or record_hash(row) != row["hash"]:
            yield f"seq {row['seq']} does not match its hash or that of the record before"
        elif named.get(row["seq"], row["hash"]) != row["hash"]:
            yield f"seq {row['seq']} is not the record the heads name"
        seq, previous = row["seq"], row["hash"]
    if (seq, previous) != (manifest.last_seq, manifest.last_hash):
        yield f"ends at seq {seq}, not at {manifest.last_seq} with the hash of the manifest"


def _content_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    count = 0
    for row in read_rows(folder / manifest.contents_file):
        count += 1
        if sha256_hex(row["content"].encode()) != row["sha256"]:
            yield f"content {row['sha256']!r} was altered"
    if count != manifest.contents:
        yield f"has {count} contents, not {manifest.contents}"


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file, a few thousand in memory at a time.

    Raises
    ------
    LedgerError
        It is no parquet file, or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise LedgerError(f"archive file {str(path)!r} cannot be read: {error}") from error


def find_row(path: Path, column: str, value: str) -> dict[str, Any] | None:
    """The first row of a file whose column has a value; None where there is none."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                named = file.read_row_group(group, [column], use_threads=False)[column]
                index = pc.index(named, pa.scalar(value, named.type)).as_py()
                if index >= 0:
                    table = file.read_row_group(group, use_threads=False)
                    row: dict[str, Any] = table.slice(index, 1).to_pylist()[0]
                    return row
    except (pa.ArrowException, OSError) as error:
        raise LedgerError(f"archive file {str(path)!r} cannot be read: {error}") from error
    return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> str:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with pq.ParquetWriter(partial, schema, compression=COMPRESSION) as writer:
            waiting: list[Mapping[str, Any]] = []
            for row in rows:
                waiting.append(row)
                if len(waiting) == BATCH:
                    writer.write_batch(pa.RecordBatch.from_pylist(waiting, schema=schema))
                    waiting = []
            if waiting:
                writer.write_batch(pa.RecordBatch.from_pylist(waiting, schema=schema))
        sync_path(partial)
        sha256 = file_sha256(partial)
        partial.replace(path)
        sync_path(path.parent)
    except (pa.ArrowException, OSError) as error:
        raise LedgerError(f"archive file {str(path)!r} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return sha256
