"""What the ledger of the report tests holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import HOUR, MINUTE, format_time
from pipelines.ledger_reports.request import Span

FIRST_CALL = "c" * 32
"""Id of a call of the account client-03."""

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
        "credited": 0.0,
        "deadlines": {},
        "dispute": None,
    } | changes
    if "ruleset_sha256" in changes:
        payload["contents"] = {"ruleset_sha256": changes["ruleset_sha256"]}
    return Entry("call", payload, f"{call_id}-{number}", account, as_of)


def control(number: int, as_of: int, **payload: Any) -> Entry:
    """What a command did, in the form in which it is recorded."""
    return Entry(
        "control", {"command_id": f"o-{number}", **payload}, f"control-{number}", None, as_of
    )


def append_enforcement(ledger: Ledger, start: int, ruleset: str) -> None:
    """Two calls (one met, one disputed and missed), an approved override and a fund draw."""
    at = start + 2 * HOUR
    first, second = FIRST_CALL, "d" * 32
    whose = "client-é/漢"
    rule = {"ruleset_sha256": ruleset}
    large = {**rule, "amount": 500.0, "outstanding": 500.0}
    override = {
        "override_id": "o-1",
        "kind": "add_on",
        "target": "client-03",
        "reason": "volatile client",
        "amount": 750.0,
        "requester": "key-1",
        "requested_at": format_time(at + HOUR),
        "expires": format_time(at + 30 * HOUR),
        "pending_until": format_time(at + 2 * HOUR),
        "state": "pending",
        "add_on": 900.0,
        "deadline": None,
        "approver": None,
        "approved_at": None,
    }
    approved = {
        **override,
        "state": "active",
        "approver": "key-2",
        "approved_at": format_time(at + HOUR + MINUTE),
    }
    dispute = {
        "reason": "price",
        "amount": 120.0,
        "since": format_time(at + 2 * HOUR),
        "until": format_time(at + 26 * HOUR),
        "by": "key-3",
        "note": "mark of another venue",
    }
    fund = {
        "account_id": whose,
        "call_id": second,
        "shortfall": 40.0,
        "fund_paid": 30.0,
        "deleveraged": 0.0,
        "shared": 10.0,
        "uncovered": 0.0,
        "fund_balance": 970.0,
    }
    entries = [
        call(first, 1, "opened", at, "client-03", **rule),
        call(second, 1, "opened", at + HOUR, whose, **large),
        control(
            1,
            at + HOUR,
            command="override",
            requester="key-1",
            result="pending",
            overrides=[override],
        ),
        control(
            2,
            at + HOUR + MINUTE,
            command="approve",
            requester="key-2",
            result="applied",
            overrides=[approved],
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
            cures=[{"source": "deposit", "amount": 120.0, "time": format_time(at + 2 * HOUR)}],
            **rule,
        ),
        call(
            second,
            2,
            "disputed",
            at + 2 * HOUR,
            whose,
            state_before="called",
            state="disputed",
            dispute=dispute,
            **large,
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
            cures=[{"source": "price_move", "amount": 80.0, "time": format_time(at + 3 * HOUR)}],
            **rule,
        ),
        control(
            3,
            at + 3 * HOUR,
            command="mode",
            requester="key-1",
            result="refused",
            refused="no such market",
            kind="invalid",
        ),
        call(
            second,
            3,
            "dispute_expired",
            at + 26 * HOUR,
            whose,
            state_before="disputed",
            **large,
        ),
        call(
            second,
            4,
            "deadline_missed",
            at + 30 * HOUR,
            whose,
            state_before="called",
            state="reduce_only",
            deadline=None,
            **{name: value for name, value in large.items() if name != "deadline"},
        ),
        Entry("default_resources", fund | rule, "default-1", whose, at + 31 * HOUR),
    ]
    with Ledger(ledger.engine.url.render_as_string(False), chain="enforcement") as enforcement:
        enforcement.append(entries)
