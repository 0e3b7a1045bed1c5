"""What the ledger of the report tests holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import HOUR, MINUTE, format_time
from pipelines.ledger_reports.request import Span

FIGURES = {
    "equity": 900.0,
    "maintenance_margin": 950.0,
    "initial_margin": 1_900.0,
    "opening_requirement": 1_900.0,
    "add_on": 150.0,
    "cash": 900.0,
    "headroom": -50.0,
    "gross_notional": 9_000.0,
}


@dataclass(frozen=True)
class RecordedDays:
    """A ledger, the span that it covers and a time inside."""

    url: str
    ledger: Ledger
    span: Span
    middle: int


def call(call_id: str, number: int, event: str, as_of: int, account: str, **changes: Any) -> Entry:
    """One event of a call, in the form in which it is recorded."""
    payload = {
        "event": event,
        "call_id": call_id,
        "number": number,
        "account_id": account,
        "scope": "cross",
        "kind": "call",
        "types": ["maintenance_margin"],
        "state_before": "healthy",
        "state": "called",
        "reason": "margin_call",
        "amount": 200.0,
        "outstanding": 200.0,
        "deadline": format_time(as_of + 4 * HOUR),
        "figures": FIGURES,
        "cures": [],
        "trigger": {"chain": "market", "seq": 7},
        "ruleset_sha256": "a" * 64,
        "sequence": number,
    } | changes
    return Entry("call", payload, f"{call_id}-{number}", account, as_of)


def append_enforcement(ledger: Ledger, start: int, ruleset: str) -> None:
    """Two calls (one met, one missed and liquidated), overrides, a dispute and a fund draw."""
    at = start + 2 * HOUR
    first, second = "c" * 32, "d" * 32
    rule = {"ruleset_sha256": ruleset}
    entries = [
        call(first, 1, "opened", at, "client-03", **rule),
        call(
            second, 1, "opened", at + HOUR, "client-é/漢", amount=500.0, outstanding=500.0, **rule
        ),
        Entry(
            "control",
            {
                "command": "override",
                "command_id": "o-1",
                "requester": "key-1",
                "time": format_time(at + HOUR),
                "account_id": "client-03",
                "add_on": 900.0,
                "reason": "volatile client",
                "expires": format_time(at + 30 * HOUR),
                "status": "pending",
            },
            "control-o-1",
            None,
            at + HOUR,
        ),
        Entry(
            "control",
            {
                "command": "approve",
                "command_id": "o-2",
                "requester": "key-2",
                "time": format_time(at + HOUR + MINUTE),
                "of": "o-1",
            },
            "control-o-2",
            None,
            at + HOUR + MINUTE,
        ),
        call(
            first,
            2,
            "partly_met",
            at + 2 * HOUR,
            "client-03",
            state_before="called",
            state="partly_met",
            outstanding=80.0,
            cures=[{"source": "deposit", "amount": 120.0}],
            **rule,
        ),
        call(
            second,
            2,
            "disputed",
            at + 2 * HOUR,
            "client-é/漢",
            state_before="called",
            state="disputed",
            reason="price",
            amount=500.0,
            outstanding=500.0,
            **rule,
        ),
        call(
            first,
            3,
            "met",
            at + 3 * HOUR,
            "client-03",
            state_before="partly_met",
            state="met",
            outstanding=0.0,
            cures=[{"source": "deposit", "amount": 80.0}],
            **rule,
        ),
        Entry(
            "control",
            {
                "command": "mode",
                "command_id": "m-1",
                "requester": "key-1",
                "time": format_time(at + 3 * HOUR),
                "mode": "no_instructions",
                "refused": True,
                "reason": "no such market",
            },
            "control-m-1",
            None,
            at + 3 * HOUR,
        ),
        call(
            second,
            3,
            "deadline_missed",
            at + 30 * HOUR,
            "client-é/漢",
            state_before="disputed",
            state="reduce_only",
            amount=500.0,
            outstanding=500.0,
            deadline=format_time(at + 29 * HOUR),
            **rule,
        ),
        Entry(
            "instruction",
            {
                "event": "issued",
                "instruction_id": "e" * 32,
                "number": 1,
                "call_id": second,
                "account_id": "client-é/漢",
                "kind": "close",
                "parameters": {"instrument": "BTCUSDT-PERP", "quantity": -0.1},
                "deadline": format_time(at + 31 * HOUR),
                "sequence": 4,
                "ruleset_sha256": ruleset,
            },
            f"{'e' * 32}-1",
            "client-é/漢",
            at + 30 * HOUR,
        ),
        Entry(
            "default_resources",
            {
                "account_id": "client-é/漢",
                "call_id": second,
                "shortfall": 40.0,
                "fund_paid": 30.0,
                "deleveraged": 0.0,
                "shared": 10.0,
                "uncovered": 0.0,
                "fund_balance": 970.0,
                "ruleset_sha256": ruleset,
            },
            "default-1",
            "client-é/漢",
            at + 31 * HOUR,
        ),
    ]
    with Ledger(ledger.engine.url.render_as_string(False), chain="enforcement") as enforcement:
        enforcement.append(entries)
