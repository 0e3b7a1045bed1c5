"""Calls and ageing: margin calls of a span, how they ended, and how old the open ones are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ledger.store import Ledger
from market.core.clock import HOUR, format_time
from pipelines.ledger_reports.enforcement_log import (
    CallHistory,
    EnforcementLog,
    figure,
    time_cell,
)
from pipelines.ledger_reports.formats.document import Cell, Chart, Report, Table
from pipelines.ledger_reports.request import ReportRequest, Span

AGE_HOURS = (1, 4, 24, 72)
"""Upper ends of the classes of age, hours; a last class is open."""

CALL_COLUMNS = (
    *("call_id", "account_id", "kind", "types", "state", "event", "opened_at", "age_hours"),
    *("deadline", "missed_at", "ended_at", "amount", "outstanding", "cured", "cured_by", "events"),
    "ruleset_sha256",
)


def calls(ledger: Ledger, request: ReportRequest) -> Report:
    """Calls that were open in a span, by account if asked."""
    span = request.span
    log = EnforcementLog.until(ledger, span.end)
    found = [call for call in log.calls(request.account) if _touches(call, span)]
    still_open = [call for call in found if call.ended_at is None]
    table = Table(
        "calls",
        "Calls",
        CALL_COLUMNS,
        [call_row(call, span.end) for call in found],
        "Amounts in the settlement currency; age up to the end of the call or of the span.",
    )
    ageing = _ageing(still_open, span.end)
    labels = tuple(str(row[0]) for row in ageing.rows)
    chart = Chart(
        "ageing",
        "Outstanding of open calls by age",
        labels,
        {"outstanding": [x if isinstance(x, float) else None for x in (r[2] for r in ageing.rows)]},
        bars=True,
    )
    return Report(
        "calls",
        f"Margin calls, {format_time(span.start)} to {format_time(span.end)}",
        {**span.facts(), **log.facts(), "account_id": request.account},
        (_summary(found, span), ageing, table, _default_resources(log, request)),
        "calls",
        (chart,),
    )


def call_row(call: CallHistory, until: int) -> list[Cell]:
    """The cells of `CALL_COLUMNS` of a call."""
    payload = call.newest
    cured = call.cured()
    end = call.ended_at
    return [
        call.call_id,
        str(payload["account_id"]),
        str(payload["kind"]),
        ", ".join(payload["types"]),
        str(payload["state"]),
        str(payload["event"]),
        format_time(call.opened_at),
        ((until if end is None else end) - call.opened_at) / HOUR,
        time_cell(call.deadline),
        time_cell(call.missed_at),
        time_cell(end),
        figure(payload, "amount"),
        figure(payload, "outstanding"),
        sum(cured.values()),
        ", ".join(f"{source} {amount:.2f}" for source, amount in sorted(cured.items())) or None,
        len(call.events),
        str(payload["ruleset_sha256"]),
    ]


def _touches(call: CallHistory, span: Span) -> bool:
    """Whether a call was open at any time of the span."""
    return call.ended_at is None or call.ended_at > span.start


def _summary(found: Sequence[CallHistory], span: Span) -> Table:
    opened = [call for call in found if call.opened_at in span]
    ended = [call for call in found if call.ended_at is not None]
    hours = [(call.ended_at - call.opened_at) / HOUR for call in ended if call.ended_at is not None]
    amounts = [figure(call.events[0], "amount") or 0.0 for call in opened]
    missed = [call for call in found if call.missed_at is not None and call.missed_at in span]
    by_day: dict[int, float] = {}
    ends = np.array(list(span.days()), dtype=np.int64)
    for call, amount in zip(opened, amounts, strict=True):
        day = int(np.searchsorted(ends, call.opened_at))
        by_day[day] = by_day.get(day, 0.0) + amount
    rows: list[list[Cell]] = [
        ["opened", len(opened)],
        ["opened_amount", float(sum(amounts))],
        ["largest_call", max(amounts, default=0.0)],
        ["largest_calls_of_a_day", max(by_day.values(), default=0.0)],
        ["met", sum(call.first("met") is not None for call in ended)],
        ["ended_otherwise", sum(call.first("met") is None for call in ended)],
        ["missed_deadline", len(missed)],
        ["disputed", sum(call.first("disputed") is not None for call in found)],
        ["open_at_end", len(found) - len(ended)],
        [
            "outstanding_at_end",
            float(sum(figure(c.newest, "outstanding") or 0.0 for c in found if c.ended_at is None)),
        ],
        ["median_hours_to_end", float(np.median(hours)) if hours else None],
    ]
    return Table(
        "summary",
        "Summary",
        ("figure", "value"),
        rows,
        "largest_calls_of_a_day: the largest sum of calls opened on one day in UTC. Compare "
        "CPMI-IOSCO disclosure 6.8, maximum aggregate initial margin call on any given business "
        "day.",
    )


def _ageing(still_open: Sequence[CallHistory], until: int) -> Table:
    ages = np.array([(until - call.opened_at) / HOUR for call in still_open])
    outstanding = np.array([figure(call.newest, "outstanding") or 0.0 for call in still_open])
    past = np.array(
        [
            call.missed_at is not None or (call.deadline is not None and call.deadline < until)
            for call in still_open
        ],
        dtype=np.bool_,
    )
    place = np.searchsorted(AGE_HOURS, ages) if len(ages) else np.zeros(0, dtype=np.int64)
    names = [f"up to {hours} h" for hours in AGE_HOURS] + [f"over {AGE_HOURS[-1]} h"]
    return Table(
        "ageing",
        "Open calls by age",
        ("age", "calls", "outstanding", "past_deadline"),
        [
            [
                name,
                int((place == k).sum()),
                float(outstanding[place == k].sum()),
                int(past[place == k].sum()),
            ]
            for k, name in enumerate(names)
        ],
    )


def _default_resources(log: EnforcementLog, request: ReportRequest) -> Table:
    names = ("shortfall", "fund_paid", "deleveraged", "shared", "uncovered", "fund_balance")
    rows: list[list[Cell]] = [
        [
            time_cell(record.as_of),
            str(record.payload["account_id"]),
            str(record.payload["call_id"]),
            *(figure(record.payload, name) for name in names),
        ]
        for record in log.of_kind("default_resources", request.account)
        if (record.as_of or 0) in request.span
    ]
    return Table(
        "default_resources",
        "Draws on default resources",
        ("time", "account_id", "call_id", *names),
        rows,
        "Compare fund_balance with CPMI-IOSCO disclosure 4.3, value of pre-funded default "
        "resources.",
    )
