"""Overrides and disputes: what people changed, who approved it, and which calls were disputed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ledger.canonical import canonical_bytes
from ledger.records import Record
from ledger.store import Ledger
from market.core.clock import HOUR, format_time
from pipelines.ledger_reports.enforcement_log import (
    CallHistory,
    EnforcementLog,
    figure,
    time_cell,
)
from pipelines.ledger_reports.formats.document import Cell, Report, Table
from pipelines.ledger_reports.request import ReportRequest, Span

_CONTROL_COLUMNS = ("command", "command_id", "requester", "result", "refused")
_STATED = frozenset((*_CONTROL_COLUMNS, "overrides"))
_OVERRIDE_COLUMNS = (
    *("override_id", "kind", "target", "state", "add_on", "deadline", "reason", "amount"),
    *("requester", "approver", "requested_at", "approved_at", "expires"),
)


def overrides(ledger: Ledger, request: ReportRequest) -> Report:
    """Controls that were applied or refused in a span, overrides and disputes that were open."""
    span = request.span
    log = EnforcementLog.until(ledger, span.end)
    every = log.of_kind("control")
    controls = [record for record in every if (record.as_of or 0) in span]
    counts = Counter((_text(r, "command"), _text(r, "result")) for r in controls)
    return Report(
        "overrides",
        f"Overrides and disputes, {format_time(span.start)} to {format_time(span.end)}",
        {**span.facts(), **log.facts()},
        (
            Table(
                "summary",
                "Controls by command",
                ("command", "result", "records"),
                [[*key, count] for key, count in sorted(counts.items(), key=str)],
                "A dash in place of a command: time ended an override.",
            ),
            Table(
                "overrides",
                "Overrides",
                _OVERRIDE_COLUMNS,
                _overrides(every, span),
                "As each stood at the end of the span. Those that ended before it are left out.",
            ),
            Table(
                "controls",
                "Controls",
                ("time", *_CONTROL_COLUMNS, "details", "record_id", "record_hash"),
                [_control(record) for record in controls],
                "details: what else the record holds, as JSON.",
                frozenset({"record_hash"}),
            ),
            Table(
                "disputes",
                "Disputes",
                (
                    *("call_id", "account_id", "reason", "disputed_at", "amount", "by", "note"),
                    *("outcome", "ended_at", "hours"),
                ),
                [row for call in log.calls() for row in _disputes(call, span.start)],
            ),
        ),
        "controls",
    )


def _overrides(controls: Sequence[Record], span: Span) -> list[list[Cell]]:
    """The newest form of each override, but of those that ended before the span."""
    newest: dict[str, tuple[int, dict[str, Any]]] = {}
    for record in controls:
        for override in record.payload.get("overrides") or ():
            newest[str(override["override_id"])] = record.as_of or 0, override
    return [
        [override.get(name) for name in _OVERRIDE_COLUMNS]
        for changed, override in newest.values()
        if override["state"] in ("pending", "active") or changed > span.start
    ]


def _control(record: Record) -> list[Cell]:
    rest = {name: v for name, v in record.payload.items() if name not in _STATED}
    return [
        time_cell(record.as_of),
        *(_text(record, name) for name in _CONTROL_COLUMNS),
        canonical_bytes(rest).decode(),
        record.id,
        record.hash,
    ]


def _text(record: Record, name: str) -> str | None:
    value = record.payload.get(name)
    return None if value is None else str(value)


def _disputes(call: CallHistory, since: int) -> list[list[Cell]]:
    """One row a dispute of a call that was open after a time."""
    rows: list[list[Cell]] = []
    events = list(zip(call.times, call.events, strict=True))
    for place, (time, payload) in enumerate(events):
        if payload["event"] != "disputed":
            continue
        later = events[place + 1 :]
        # Any event that finds no dispute has ended it: a decision, a missed deadline, a stop-out.
        end = next((one for one in later if one[1].get("dispute") is None), None)
        if end is not None and end[0] <= since:
            continue
        dispute = payload.get("dispute") or {}
        amount = dispute.get("amount")
        rows.append(
            [
                call.call_id,
                str(payload["account_id"]),
                str(dispute.get("reason") or payload["reason"]),
                format_time(time),
                figure(payload, "outstanding") if amount is None else float(amount),
                dispute.get("by"),
                dispute.get("note"),
                "open" if end is None else str(end[1]["event"]),
                None if end is None else format_time(end[0]),
                None if end is None else (end[0] - time) / HOUR,
            ]
        )
    return rows
