"""What the pages of audit show: chains, records, commands, and extracts as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from decisions.errors import NotFoundError, RequestError
from enforcement.controls.commands import COMMAND, CommandLog
from ledger.audit.browse import (
    RecordSpan,
    chain_summaries,
    more_than,
    newest_of_kind,
    record_at,
    records_of_span,
)
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.packing import pack_id
from ledger.records import HASHED_COLUMNS, Record
from ledger.store import Ledger
from market.core.clock import DAY, format_time, parse_time
from market.core.csv_cells import csv_cell
from market.core.errors import LedgerError, MargincastError
from serving.enforcement.stored_rows import is_storable

MOST_COMMANDS = 20
MOST_ROWS = 100_000
"""Records of one extract; a longer span is refused, never cut."""

LONGEST_DAYS = 366

COLUMNS = (*HASHED_COLUMNS, "payload_sha256", "hash", "payload")
"""Columns of an extract: what a record's hash covers, the hash, the payload as canonical JSON."""

_PART = 1 << 18
"""Characters after which a part of an extract is sent."""


def chains(ledger: Ledger) -> list[dict[str, Any]]:
    """A row for each chain, see `ledger.audit.browse.ChainSummary`."""
    return [
        {
            "name": one.name,
            "records": one.seq,
            "hash": one.hash,
            "at": format_time(one.recorded_at),
            "kind": one.kind,
            "archived": one.archived,
            "segments": one.segments,
        }
        for one in chain_summaries(ledger)
    ]


def commands(ledger: Ledger) -> dict[str, Any]:
    """The newest commands, who requested them and what became of them.

    `problem` says it where a record was altered.
    """
    log = CommandLog(ledger)
    try:
        newest = newest_of_kind(ledger, COMMAND, MOST_COMMANDS)
        rows = [_command(record, log.outcome(record.id)) for record in newest]
    except LedgerError as error:
        return {"rows": [], "problem": str(error)}
    return {"rows": rows, "problem": ""}


def _command(record: Record, outcome: Record | None) -> dict[str, Any]:
    payload = record.payload
    became = {"result": "waiting"} if outcome is None else outcome.payload
    shown = ("command", "requester", "time")
    return {
        "chain": record.chain,
        "seq": record.seq,
        "at": format_time(record.recorded_at),
        "command": str(payload.get("command", "")),
        "requester": str(payload.get("requester", "not recorded")),
        "of": {
            name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in payload.items()
            if name not in shown and value not in (None, "") and not isinstance(value, dict)
        },
        "result": str(became.get("result", "")),
        "refused": str(became.get("refused") or ""),
    }


def found_record(
    ledger: Ledger, chain: str | None, seq: int | None, record_id: str | None
) -> Record:
    """A record by chain and number, or by id.

    Raises
    ------
    RequestError
        Neither or both are given.
    NotFoundError
        There is no such record in the table.
    AlteredError
        It does not match its hash.
    """
    if record_id is not None and chain is None and seq is None:
        try:
            pack_id(record_id)
            return ledger.get_record(record_id)
        except ValueError:
            raise NotFoundError(_no_id(record_id)) from None
        except LedgerError as error:
            if "is not in the ledger" in str(error):
                raise NotFoundError(_no_id(record_id)) from None
            raise
    if record_id is not None or chain is None or seq is None:
        raise RequestError("give chain and seq of a record, or its id")
    if not 1 <= seq < 2**63:
        raise RequestError(f"seq is {seq}; records of a chain are numbered from 1")
    record = record_at(ledger, chain, seq) if is_storable(chain) else None
    if record is None:
        raise NotFoundError(
            f"chain {chain[:128]!r} has no record {seq} in the table; it was never appended, or is "
            "in an archived segment"
        )
    return record


def _no_id(record_id: str) -> str:
    return f"there is no record {record_id[:64]!r}; give an id that was returned"


def span_of(ledger: Ledger, kind: str, start: str, end: str, chain: str | None) -> RecordSpan:
    """The span of an extract.

    Parameters
    ----------
    ledger:
        Where it is.
    kind, chain:
        Of the records; chain None: all.
    start, end:
        ISO 8601 times or dates of recording, the end excluded; as an end a date is its whole day.

    Raises
    ------
    RequestError
        A text is no time, nothing lies between, or the span is too long.
    """
    if not is_storable(kind, chain or ""):
        raise RequestError("kind or chain has a NUL character; give the name of one")
    first, last = _time("from", start), _time("to", end)
    if len(end) == len("2026-01-01"):
        last += DAY
    if last <= first:
        raise RequestError(f"to is {end!r}, not after from {start!r}; swap them")
    if last - first > LONGEST_DAYS * DAY:
        raise RequestError(f"the span is over {LONGEST_DAYS} days; ask for shorter ones")
    span = RecordSpan(kind, first, last, chain or None)
    if more_than(ledger, span, MOST_ROWS):
        raise RequestError(
            f"over {MOST_ROWS} records of kind {kind!r} were recorded in this span; ask for a "
            "shorter one, or use margincast report audit-extract"
        )
    return span


def extract_lines(ledger: Ledger, span: RecordSpan) -> Iterator[bytes]:
    """The records of a span as CSV in UTF-8, a part at a time; every record matches its hash.

    A text that a spreadsheet would compute, as an account id may be one, or that begins with an
    apostrophe, has an apostrophe before it: without that one it is what the hash covers.
    """
    buffer = io.StringIO()
    # Quoted, as a carriage return in a text would end a row otherwise.
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(COLUMNS)
    for record in records_of_span(ledger, span):
        payload = canonical_bytes(record.payload)
        columns = [csv_cell(getattr(record, name)) for name in HASHED_COLUMNS]
        writer.writerow([*columns, sha256_hex(payload), record.hash, payload.decode()])
        if buffer.tell() >= _PART:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _time(name: str, text: str) -> int:
    try:
        return parse_time(text)
    except (MargincastError, ValueError):
        raise RequestError(f"{name} is {text[:64]!r}; give an ISO 8601 time or date") from None
