"""Audit extract: all records of a span with what their hashes cover, to be checked outside.

The hash of a record is the SHA-256 of the canonical JSON of its columns, among them the SHA-256 of
its payload and the hash of the record before. So whoever holds the rows of a chain's slice can
check each hash, that every record follows the one before, and that the last hash is the head that
was published; docs/reports.md has a program of a few lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ledger.canonical import canonical_bytes, sha256_hex
from ledger.following import SharedChain
from ledger.records import HASHED_COLUMNS, Record, hash_with_payload
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import AlteredError, DataError
from pipelines.ledger_reports.chain_cuts import Cuts
from pipelines.ledger_reports.formats.document import Cell, Report, Table
from pipelines.ledger_reports.request import ReportRequest

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
