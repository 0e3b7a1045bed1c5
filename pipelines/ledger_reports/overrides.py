"""Overrides and disputes: what people changed, who approved it, and which calls were disputed."""

from __future__ import annotations

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
from pipelines.ledger_reports.request import ReportRequest

_STATED = frozenset(
    {"command", "command_id", "requester", "reason", "expires", "refused", "account_id", "call_id"}
)
_RESOLVED = ("dispute_resolved", "dispute_expired")


def overrides(ledger: Ledger, request: ReportRequest) -> Report:
    """Controls that took effect or were refused in a span, and calls disputed in it."""
    span = request.span
    log = EnforcementLog.until(ledger, span.end)
    controls = [r for r in log.of_kind("control") if (r.as_of or 0) in span]
    disputes = [
        row for call in log.calls() for row in _disputes(call) if _last_time(call) > span.start
    ]
    table = Table(
        "controls",
        "Controls",
        (
            *("time", "command", "command_id", "requester", "account_id", "call_id", "reason"),
            *("expires", "refused", "details", "record_id", "record_hash"),
        ),
        [_control(record) for record in controls],
        "details: what else the record holds, as JSON.",
        frozenset({"record_hash"}),
    )
    counts: dict[str, list[int]] = {}
    for record in controls:
        name = str(record.payload.get("command"))
        both = counts.setdefault(name, [0, 0])
        both[1 if record.payload.get("refused") else 0] += 1
    summary = Table(
        "summary",
        "Controls by command",
        ("command", "applied", "refused"),
        [[name, *both] for name, both in sorted(counts.items())],
    )
    return Report(
        "overrides",
        f"Overrides and disputes, {format_time(span.start)} to {format_time(span.end)}",
        {**span.facts(), **log.facts()},
        (
            summary,
            table,
            Table(
                "disputes",
                "Disputes",
                (
                    *("call_id", "account_id", "reason", "disputed_at", "amount", "outcome"),
                    *("ended_at", "hours"),
                ),
                disputes,
            ),
        ),
        "controls",
    )


def _control(record: Record) -> list[Cell]:
    payload = record.payload
    rest = {k: v for k, v in payload.items() if k not in _STATED}
    refused = payload.get("refused")
    return [
        time_cell(record.as_of),
        *(
            None if payload.get(name) is None else str(payload[name])
            for name in (
                *("command", "command_id", "requester", "account_id", "call_id", "reason"),
                "expires",
            )
        ),
        bool(refused) if refused is not None else False,
        canonical_bytes(rest).decode(),
        record.id,
        record.hash,
    ]


def _disputes(call: CallHistory) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for place, (time, payload) in enumerate(zip(call.times, call.events, strict=True)):
        if payload["event"] != "disputed":
            continue
        end = next(
            (
                (later, event["event"])
                for later, event in zip(
                    call.times[place + 1 :], call.events[place + 1 :], strict=True
                )
                if event["event"] in _RESOLVED
            ),
            None,
        )
        dispute = payload.get("dispute") or {}
        rows.append(
            [
                call.call_id,
                str(payload["account_id"]),
                str(dispute.get("reason") or payload["reason"]),
                format_time(time),
                figure(dispute, "amount") if dispute else figure(payload, "amount"),
                "open" if end is None else str(end[1]),
                None if end is None else format_time(end[0]),
                None if end is None else (end[0] - time) / HOUR,
            ]
        )
    return rows


def _last_time(call: CallHistory) -> int:
    return call.times[-1]
