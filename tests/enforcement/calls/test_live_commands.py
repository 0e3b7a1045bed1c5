"""Disputes, overrides, modes and answers of the venue in the calls of a live book."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from enforcement.controls.commands import CONTROL, CommandLog
from enforcement.record.live_enforcement import LiveEnforcement
from enforcement.record.rows import read_open_calls, read_open_instructions
from ledger.store import Ledger
from ledger.verify import verify
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time, parse_time
from monitoring.evaluation.lease import LeaseLostError
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, deltas, snapshot, watched

FIRST = 230


@pytest.fixture
def w(market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger) -> Watched:
    return watched(market, ruleset, bundles, ledger, FIRST, LiveEnforcement(ledger))


def command(w: Watched, name: str, requester: str = "desk", **rest: Any) -> dict[str, Any]:
    """Post a command, let the leader apply it, and give the record of what it changed."""
    log = CommandLog(w.ledger)
    now = w.market.live.state.newest_known
    assert now is not None
    appended = log.append({"command": name, "requester": requester, **rest}, now)
    w.settle()
    outcome = log.outcome(appended.command_id)
    assert outcome is not None
    return outcome.payload | {"command_id": appended.command_id}


def events(w: Watched, kind: str = "call") -> list[str]:
    return [record.payload["event"] for record in w.ledger.records(kind)]


def called(w: Watched) -> str:
    """One account with a proactive call."""
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
    w.settle()
    (call,) = read_open_calls(w.ledger)
    return call.call_id


def test_a_dispute_stops_the_clock_and_its_end_gives_the_time_back(w: Watched) -> None:
    call_id = called(w)
    (before,) = read_open_calls(w.ledger)
    assert command(w, "dispute", call_id=call_id, reason="price")["result"] == "applied"
    (disputed,) = read_open_calls(w.ledger)
    assert disputed.state == "disputed"
    for row in range(FIRST, FIRST + 3):
        w.bars(row)
        w.settle()
    assert command(w, "resolve", call_id=call_id, outcome="rejected", note="checked")["outcome"]
    (after,) = read_open_calls(w.ledger)
    assert (after.state, after.dispute_end) == ("called", "rejected")
    assert before.deadline is not None
    assert after.deadline == format_time(parse_time(before.deadline) + 3 * HOUR)
    assert [e for e in events(w) if e.startswith("disp")] == ["disputed", "dispute_resolved"]


def test_a_dispute_that_nobody_resolves_expires(w: Watched) -> None:
    call_id = called(w)
    command(w, "dispute", call_id=call_id, reason="model")
    for row in range(FIRST, FIRST + 25):
        w.bars(row)
        w.settle()
    assert "dispute_expired" in events(w)


def test_an_override_of_a_deadline_counts_once_a_second_person_approved_it(w: Watched) -> None:
    call_id = called(w)
    (before,) = read_open_calls(w.ledger)
    assert before.deadline is not None
    wanted = format_time(parse_time(before.deadline) + 6 * HOUR)
    asked = command(w, "override", call_id=call_id, deadline=wanted, reason="bank holiday")
    assert asked["result"] == "pending"
    assert read_open_calls(w.ledger)[0].deadline == before.deadline
    override_id = asked["overrides"][0]["override_id"]
    assert command(w, "approve", override_id=override_id)["refused"]
    assert command(w, "approve", "risk", override_id=override_id)["result"] == "applied"
    w.settle()
    assert read_open_calls(w.ledger)[0].deadline == wanted
    assert events(w)[-1] == "deadline_moved"


def test_no_call_opens_while_calls_are_off_and_it_does_after(w: Watched) -> None:
    w.settle()
    w.update(snapshot("other", 1, 1e6))
    w.settle()
    command(w, "mode", modes=["no_calls"], reason="bad feed")
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
    w.settle()
    assert events(w) == []
    command(w, "mode", modes=["normal"], reason="feed is back")
    assert events(w) == ["opened"]


def test_rules_only_calls_on_the_rule_floor(w: Watched) -> None:
    w.update(snapshot("other", 1, 1e6))
    w.settle()
    command(w, "mode", modes=["rules_only"], reason="model under review", symbol="BTCUSDT")
    called(w)
    (call,) = read_open_calls(w.ledger)
    columns = w.monitor.columns
    assert columns is not None
    assert call.figures.add_on == pytest.approx(float(columns.floor[1]))


def test_a_liquidation_is_instructed_answered_and_ends(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    kinds = {one.kind: one for one in read_open_instructions(w.ledger)}
    assert set(kinds) == {"cancel_orders", "reduce_only", "close"}
    close = kinds["close"]
    quantity = close.parameters["quantity"]
    assert -0.5 <= quantity < 0.0
    for one in kinds.values():
        more = {"quantity": quantity, "price": 90_000.0} if one.kind == "close" else {}
        command(
            w, "acknowledge", "venue", instruction_id=one.instruction_id, status="filled", **more
        )
    assert events(w, "instruction").count("filled") == 3
    w.update(snapshot("c", 2, 390.0, BTC=0.5 + quantity))
    w.settle()
    assert events(w)[-1] in ("reinstated", "opened", "credited")
    assert "reinstated" in events(w)
    refused = command(
        w, "acknowledge", "venue", instruction_id=close.instruction_id, status="rejected"
    )
    assert refused["refused"]


def test_a_close_that_traded_waits_for_its_answer_though_it_is_needed_no_more(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    (close,) = (one for one in read_open_instructions(w.ledger) if one.kind == "close")
    quantity = close.parameters["quantity"]
    assert close.parameters["position"] == 0.5
    w.update(snapshot("c", 2, 390.0, BTC=0.5 + quantity))
    w.settle()
    assert "reinstated" in events(w)
    assert [one.kind for one in read_open_instructions(w.ledger)] == ["close"]
    answer = {"status": "filled", "quantity": quantity, "price": 90_000.0}
    command(w, "acknowledge", "venue", instruction_id=close.instruction_id, **answer)
    assert events(w, "instruction").count("filled") == 1
    assert read_open_instructions(w.ledger) == []


def test_a_close_is_cancelled_once_a_deposit_made_it_needless(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    w.update(deltas("c", 2, {"kind": "deposit", "asset": "USD", "amount": 50_000.0}))
    w.settle()
    assert read_open_instructions(w.ledger) == []
    assert events(w, "instruction").count("cancelled") == 3


def test_an_instruction_without_an_answer_is_given_again(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    first = {one.instruction_id for one in read_open_instructions(w.ledger)}
    w.bars(FIRST)
    w.settle()
    again = read_open_instructions(w.ledger)
    assert events(w, "instruction").count("timed_out") == 3
    assert [one.kind for one in again] == ["close"]
    assert not first & {one.instruction_id for one in again}


def test_a_bankrupt_account_is_settled_by_the_default_resources(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5), snapshot("rich", 1, 1e6, BTC=-0.5))
    w.settle()
    w.update(snapshot("c", 2, -50.0))
    w.settle()
    (record,) = w.ledger.records("default_resources")
    payload = record.payload
    assert payload["shortfall"] == pytest.approx(50.0)
    parts = ("fund_paid", "deleveraged", "shared", "uncovered")
    assert sum(payload[part] for part in parts) == pytest.approx(50.0)
    (call,) = read_open_calls(w.ledger)
    assert (payload["account_id"], payload["call_id"]) == ("c", call.call_id)
    assert payload["ruleset_sha256"] == next(w.ledger.records("call")).payload["ruleset_sha256"]
    assert read_open_calls(w.ledger)[0].state == "bad_debt"
    w.update(deltas("c", 3, {"kind": "deposit", "asset": "USD", "amount": 50.0}))
    w.settle()
    assert read_open_calls(w.ledger) == []
    assert events(w)[-1] == "closed"


def test_debts_that_the_fund_or_nobody_pays_are_settled_in_one_step(w: Watched) -> None:
    w.update(*(snapshot(name, 1, 400.0, BTC=0.5) for name in "abc"))
    w.settle()
    w.update(*(snapshot(name, 2, -50.0) for name in "abc"))
    w.settle()
    settled = [record.payload for record in w.ledger.records("default_resources")]
    assert [one["account_id"] for one in settled] == ["a", "b", "c"]
    assert len({one["evaluation"] for one in settled}) == 1


def test_a_close_that_was_filled_twice_adds_to_a_debt_that_was_settled(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    w.update(snapshot("c", 2, -50.0))
    w.settle()
    w.update(snapshot("c", 3, -50.0, BTC=-0.5))
    w.settle()
    assert read_open_calls(w.ledger)[0].state == "liquidating"
    w.restart()
    w.settle()
    w.update(snapshot("c", 4, -70.0))
    w.settle()
    settled = [record.payload for record in w.ledger.records("default_resources")]
    assert [one["shortfall"] for one in settled] == pytest.approx([50.0, 20.0])
    assert len({one["call_id"] for one in settled}) == 1
    w.update(deltas("c", 5, {"kind": "deposit", "asset": "USD", "amount": 70.0}))
    w.settle()
    assert events(w)[-1] == "closed"
    assert verify(w.ledger.engine).problems == []


def test_numbers_of_events_go_on_after_a_settlement_and_a_restart(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    w.update(snapshot("c", 2, -50.0))
    w.settle()
    w.restart()
    w.settle()
    w.update(deltas("c", 3, {"kind": "deposit", "asset": "USD", "amount": 50.0}))
    w.settle()
    assert events(w)[-1] == "closed"
    kinds = ("call", "instruction", "default_resources")
    numbers = [one.payload["sequence"] for kind in kinds for one in w.ledger.records(kind)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_after_a_rejection_the_next_step_waits_longer_each_time(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    waited = []
    for row in range(FIRST, FIRST + 30):
        closes = [one for one in read_open_instructions(w.ledger) if one.kind == "close"]
        for one in closes:
            waited.append(one.issued_at)
            name = one.instruction_id
            command(w, "acknowledge", "venue", instruction_id=name, status="rejected")
        w.bars(row)
        w.settle()
    hours = [parse_time(time) / HOUR for time in waited]
    gaps = [round(after - before) for before, after in pairwise(hours)]
    assert len(gaps) >= 5
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 5


def test_another_process_that_leads_on_applies_every_command_once(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger
) -> None:
    first, second = (
        watched(market, ruleset, bundles, ledger, FIRST, LiveEnforcement(ledger)) for _ in range(2)
    )
    call_id = called(first)
    command(first, "dispute", call_id=call_id, reason="price")
    log, now = CommandLog(ledger), first.market.live.state.newest_known
    assert now is not None
    log.append(
        {"command": "mode", "requester": "desk", "modes": ["rules_only"], "reason": "test"}, now
    )
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
    second.settle()
    with pytest.raises(LeaseLostError):
        first.settle()
    assert command(second, "resolve", call_id=call_id, outcome="rejected", note="checked")
    applied = [record.payload["command_id"] for record in ledger.records(CONTROL)]
    assert applied == [one["command_id"] for one in log.after(0)]
    assert len(applied) == 3
    assert verify(ledger.engine).intact
