"""Audit: chains of the ledger, its verification, records one by one, and extracts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream
from litestar.status_codes import HTTP_204_NO_CONTENT

from decisions.errors import NotFoundError
from ledger.audit.browse import kinds_of
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.records import Record
from market.core.clock import format_time
from market.core.errors import AlteredError
from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route, reads
from serving.console.views import audit as view
from serving.http.problems import EXCEPTION_HANDLERS, ProblemError

MOST_SHOWN = 200_000
"""Bytes of a payload that its page shows."""


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which record is asked for, see `serving.console.views.audit.found_record`."""

    chain: str | None
    seq: int | None
    record_id: str | None


def record_query(
    chain: FromQuery[str | None] = None,
    seq: FromQuery[int | None] = None,
    record_id: Annotated[str | None, QueryParameter(name="id")] = None,
) -> RecordQuery:
    """The query of the page of a record."""
    return RecordQuery(chain or None, seq, record_id.strip() if record_id else None)


@page_route("/audit")
async def audit_page(request: ConsoleRequest, console: NamedDependency[Console]) -> Response[bytes]:
    """The page of audit."""
    return await console.page(request, "audit.html", lambda: _content(console))


def _content(console: Console) -> dict[str, Any]:
    ledger = console.service.ledger
    chains, altered = [], ""
    try:
        chains = view.chains(ledger)
    except AlteredError as error:  # the page has to be there: it verifies the ledger
        altered = str(error)
    return {
        "chains": chains,
        "altered": altered,
        "commands": view.commands(ledger),
        "kinds": kinds_of(ledger),
        "verification": console.verifier.state,
        "today": format_time(time.time_ns())[:10],
        "most_rows": view.MOST_ROWS,
    }


@page_route("/record", record_query)
async def record_page(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    filters: NamedDependency[RecordQuery],
) -> Response[bytes]:
    """The page of one record."""
    return await console.page(request, "record.html", lambda: _record(console, filters))


def _record(console: Console, query: RecordQuery) -> dict[str, Any]:
    try:
        record = view.found_record(console.service.ledger, query.chain, query.seq, query.record_id)
    except AlteredError as error:  # in words: whoever looks it up must know
        raise NotFoundError(f"{error}; nothing of it is shown, verify the ledger") from error
    payload = canonical_bytes(record.payload)
    return {
        "record": record,
        "recorded_at": format_time(record.recorded_at),
        "as_of": None if record.as_of is None else format_time(record.as_of),
        "payload_sha256": sha256_hex(payload),
        "bytes": len(payload),
        "shown": min(len(payload), MOST_SHOWN),
        "payload": _shown(record, payload),
    }


def _shown(record: Record, payload: bytes) -> str:
    """A payload indented; of one that is longer than `MOST_SHOWN` the beginning as it is hashed."""
    if len(payload) > MOST_SHOWN:
        return payload[:MOST_SHOWN].decode(errors="ignore")
    return json.dumps(record.payload, indent=2, ensure_ascii=False, sort_keys=True)


@get("/audit/extract", guards=[reads], include_in_schema=False)
async def extract(
    console: NamedDependency[Console],
    kind: FromQuery[str],
    start: Annotated[str, QueryParameter(name="from")],
    end: Annotated[str, QueryParameter(name="to")],
    chain: FromQuery[str | None] = None,
) -> Stream:
    """Records of a kind and a span as CSV, see `serving.console.views.audit`."""
    ledger = console.service.ledger
    seconds = console.service.settings.call_seconds
    span = await console.lanes.read.run(
        lambda: view.span_of(ledger, kind, start, end, chain), seconds
    )
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{kind}-{start}-{end}")
    return Stream(
        view.extract_lines(ledger, span),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


@post(
    "/console/verify",
    guards=[reads],
    include_in_schema=False,
    status_code=HTTP_204_NO_CONTENT,
    exception_handlers=EXCEPTION_HANDLERS,
    sync_to_thread=False,
)
def verify(request: ConsoleRequest, console: NamedDependency[Console]) -> None:
    """Start the verification of the ledger; refused while one runs."""
    if not console.verifier.start(str(request.user)):
        detail = "the ledger is being verified already; wait until it is done"
        raise ProblemError(409, "verification-runs", detail)
