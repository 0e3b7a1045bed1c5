"""Client statement: one account over a span; and the notice of one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ledger.canonical import canonical_bytes
from ledger.following import ChainHead, SharedChain
from ledger.store import Ledger
from market.accounts.book import SETTLEMENT_CURRENCY
from market.core.clock import format_time
from market.core.errors import DataError
from monitoring.book.account_rows import CHAIN as ACCOUNTS
from pipelines.ledger_reports.book_at_time import BookAtTime, RecordedBook, float_cell
from pipelines.ledger_reports.calls import CALL_COLUMNS, call_row
from pipelines.ledger_reports.daily_margin import ACCOUNT_COLUMNS, account_row, chosen_rows
from pipelines.ledger_reports.enforcement_log import (
    CallHistory,
    EnforcementLog,
    figure,
    time_cell,
)
from pipelines.ledger_reports.formats.document import Cell, Report, Table
from pipelines.ledger_reports.request import ReportRequest

FIGURES = (
    *("equity", "maintenance_margin", "initial_margin", "opening_requirement", "add_on", "cash"),
    *("headroom", "gross_notional"),
)
"""Figures of a call at the time of its event."""


def client_statement(ledger: Ledger, request: ReportRequest) -> Report:
    """Equity, positions, collateral, requirement, payments, trades and calls of one account.

    Raises
    ------
    DataError
        The book had no such account at the end of the span.
    """
    account, span = str(request.account), request.span
    recorded = RecordedBook(ledger)
    before = recorded.find(span.start)
    book = recorded.at(span.end)
    (row,) = chosen_rows(book, account)
    opening: Sequence[Cell] = [None] * len(ACCOUNT_COLUMNS)
    if before is not None and account in before.state.index:
        opening = account_row(before, before.state.index[account])
    closing = account_row(book, row)
    log = EnforcementLog.until(ledger, span.end)
    calls = [
        call for call in log.calls(account) if call.ended_at is None or call.ended_at > span.start
    ]
    first = ChainHead() if before is None else before.accounts_head
    stated = book.accounts[row]
    return Report(
        "client-statement",
        f"Statement of account {account}, {format_time(span.end)}",
        {
            **span.facts(),
            **book.facts(),
            **log.facts(),
            "account_id": account,
            "account_sequence": stated.sequence,
            "account_in_sync": stated.in_sync,
        },
        (
            Table(
                "summary",
                "Summary",
                ("figure", "opening", "closing"),
                [
                    [name, old, new]
                    for name, old, new in zip(ACCOUNT_COLUMNS, opening, closing, strict=True)
                    if name != "account_id"
                ],
                "Opening: at the start of the span. total_requirement = maintenance_margin + "
                "add_on; deposit_to_meet is what headroom lacks to the add-on.",
            ),
            _positions(book, row),
            _balances(book, row),
            Table(
                "movements",
                "Payments and trades",
                ("time", "sequence", "kind", "instrument", "asset", "quantity", "price", "amount"),
                list(_movements(ledger, account, first, book.accounts_head)),
                "All that was applied between the opening and the closing book, by when it was "
                "received: times may lie before the span, or at its start.",
            ),
            Table("calls", "Calls", CALL_COLUMNS, [call_row(call, span.end) for call in calls]),
        ),
        "positions",
    )


def call_notice(ledger: Ledger, request: ReportRequest) -> Report:
    """One call as it stood at the end of a span: what is due, until when, and why.

    Raises
    ------
    DataError
        There is no such call by then.
    """
    log = EnforcementLog.until(ledger, request.span.end)
    found = [call for call in log.calls() if call.call_id == request.call]
    if not found:
        raise DataError(
            f"call {request.call!r} is not in the ledger up to {format_time(request.span.end)}; "
            "margincast report calls lists the calls of a span"
        )
    (call,) = found
    payload = call.newest
    due = {
        name: cell
        for name, cell in zip(CALL_COLUMNS, call_row(call, request.span.end), strict=True)
        if name != "events"
    }
    return Report(
        "call-notice",
        f"Notice of call {call.call_id}",
        {**request.span.facts(), **log.facts(), "ruleset_sha256": str(payload["ruleset_sha256"])},
        (
            Table("notice", "What is due", ("name", "value"), [[k, v] for k, v in due.items()]),
            _figures(call),
            Table(
                "events",
                "Events of the call",
                (
                    *("time", "number", "event", "state_before", "state", "reason", "amount"),
                    *("outstanding", "deadline", "cures", "trigger"),
                ),
                [_event(time, event) for time, event in zip(call.times, call.events, strict=True)],
            ),
        ),
        "events",
        notes=(
            f"Account {payload['account_id']}: {due['outstanding']} in the settlement currency "
            f"is outstanding and due by {due['deadline'] or 'no deadline'}.",
        ),
    )


def _event(time: int, event: dict[str, Any]) -> list[Cell]:
    return [
        format_time(time),
        int(event["number"]),
        *(str(event[name]) for name in ("event", "state_before", "state", "reason")),
        figure(event, "amount"),
        figure(event, "outstanding"),
        event.get("deadline"),
        canonical_bytes(event.get("cures") or []).decode(),
        canonical_bytes(event.get("trigger") or {}).decode(),
    ]


def _figures(call: CallHistory) -> Table:
    opened, newest = (event.get("figures") or {} for event in (call.events[0], call.newest))
    names = [*FIGURES, *sorted(set(opened | newest) - set(FIGURES))]
    return Table(
        "figures",
        "Figures of the account",
        ("figure", "when_opened", "newest"),
        [[name, figure(opened, name), figure(newest, name)] for name in names],
    )


def _positions(book: BookAtTime, row: int) -> Table:
    found = book.requirement
    legs = range(int(found.leg_start[row]), int(found.leg_start[row + 1]))
    marks = book.marks()
    flat = book.book
    rows: list[list[Cell]] = []
    for leg in legs:
        entry, mark = float(flat.leg_entry_price[leg]), float(marks[leg])
        profit = found.leg_unrealised_pnl[leg] if len(found.leg_unrealised_pnl) else np.nan
        rows.append(
            [
                flat.leg_instrument[leg],
                float(flat.leg_quantity[leg]),
                float_cell(entry),
                float_cell(mark),
                float_cell(found.leg_notional[leg]),
                float_cell(profit),
            ]
        )
    return Table(
        "positions",
        "Positions at the end",
        ("instrument", "quantity", "entry_price", "mark_price", "notional", "unrealised_pnl"),
        rows,
        "A position without an entry price counts as entered at the mark. The notional of an "
        "option is its delta exposure.",
    )


def _balances(book: BookAtTime, row: int) -> Table:
    flat, collateral = book.book, book.requirement.collateral
    cash = float(flat.cash[row])
    rows: list[list[Cell]] = [[SETTLEMENT_CURRENCY, cash, cash, 0.0, cash]]
    counted = collateral.counted()
    rows += [
        [
            flat.balance_asset[b],
            float(flat.balance_amount[b]),
            float_cell(collateral.value[b]),
            float_cell(collateral.haircut[b]),
            float_cell(counted[b]),
        ]
        for b in range(int(flat.balance_start[row]), int(flat.balance_start[row + 1]))
    ]
    return Table(
        "balances",
        "Cash and collateral at the end",
        ("asset", "amount", "value_pre_haircut", "haircut", "value_post_haircut"),
        rows,
        "Pre- and post-haircut as in the margin data of EMIR reporting (table 3 of the annex to "
        "Delegated Regulation (EU) 2022/1855), but by asset instead of as one sum.",
    )


def _movements(
    ledger: Ledger, account: str, first: ChainHead, last: ChainHead
) -> Iterator[list[Cell]]:
    """Updates of an account after one record of their chain up to another, one row a change."""
    if first == last:
        return
    for record in SharedChain(ledger, ACCOUNTS).after(first):
        for update in record.payload["updates"]:
            if update["account_id"] == account:
                yield from _rows_of(update)
        if record.seq >= last.seq:
            return


def _rows_of(update: dict[str, Any]) -> Iterator[list[Cell]]:
    place: list[Cell] = [time_cell(int(update["as_of"])), int(update["sequence"])]
    if update.get("snapshot") is not None:
        cash = float(update["snapshot"]["cash"])
        yield [
            *place,
            f"snapshot ({update['status']})",
            None,
            SETTLEMENT_CURRENCY,
            None,
            None,
            cash,
        ]
    for delta in update.get("deltas") or ():
        yield [
            *place,
            f"{delta['kind']}" if update["status"] == "applied" else f"{delta['kind']} (gap)",
            delta.get("instrument"),
            delta.get("asset"),
            figure(delta, "quantity"),
            figure(delta, "price"),
            figure(delta, "amount"),
        ]
