"""Acknowledged calls of a live book: what moves, what stays, restarts, and the replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from enforcement.record.live_enforcement import LiveEnforcement
from enforcement.record.rows import read_open_calls
from ledger.store import Ledger
from margin.rules.enforcement import CallTypeRules, EnforcementRules
from margin.rules.ruleset import RuleSet, load_ruleset
from market.core.clock import HOUR, format_time, parse_time
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.enforcement.calls.test_live_commands import FIRST, called, command, events
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched

HOURS, WAIT = 4, 2


@pytest.fixture
def ruleset() -> RuleSet:
    """A proactive call of four hours, which waits two for its acknowledgement."""
    rules = EnforcementRules(
        proactive=CallTypeRules(call_hours=float(HOURS), consequence="reduce_only"),
        deadlines_from="acknowledgement",
        acknowledgement_hours=float(WAIT),
    )
    return msgspec.structs.replace(load_ruleset("linear-tiers"), enforcement=rules)


@pytest.fixture
def w(market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger) -> Watched:
    return watched(market, ruleset, bundles, ledger, FIRST, LiveEnforcement(ledger))


def newest(w: Watched) -> Mapping[str, Any]:
    return list(w.ledger.records("call"))[-1].payload


def later(time: str, hours: float) -> str:
    return format_time(parse_time(time) + round(hours * HOUR))


def pass_hours(w: Watched, first: int, count: int) -> None:
    for row in range(first, first + count):
        w.bars(row)
        w.settle()


def test_the_hours_run_from_the_first_acknowledgement(w: Watched) -> None:
    call_id = called(w)
    (before,) = read_open_calls(w.ledger)
    assert before.deadline == later(before.opened_at, WAIT + HOURS)
    pass_hours(w, FIRST, 1)
    w.restart()
    done = command(w, "acknowledge_call", "venue", call_id=call_id, reference="n-1")
    assert done["result"] == "applied"
    (after,) = read_open_calls(w.ledger)
    assert after.acknowledged_at == done["acknowledgement"]["time"] == later(before.opened_at, 1)
    assert after.deadline == later(before.opened_at, 1 + HOURS)
    assert events(w) == ["opened", "acknowledged", "deadline_moved"]
    told = [record.payload for record in w.ledger.records("call")]
    assert told[1]["acknowledgement"] == done["acknowledgement"]
    assert (told[1]["state_before"], told[1]["state"]) == ("called", "called")
    assert told[1]["deadline"] == before.deadline
    assert (told[2]["reason"], told[2]["deadline"]) == ("acknowledgement", after.deadline)
    w.restart()
    pass_hours(w, FIRST + 1, 1)
    again = command(w, "acknowledge_call", "venue", call_id=call_id)
    assert "acknowledged already" in again["refused"]
    assert read_open_calls(w.ledger) == [after]
    pass_hours(w, FIRST + 2, 3)
    assert newest(w)["event"] == "deadline_missed"
    for record in w.records():
        assert w.replay(record).verdict == "equal"


def test_a_call_that_nobody_acknowledges_is_missed_after_the_wait(w: Watched) -> None:
    called(w)
    (call,) = read_open_calls(w.ledger)
    pass_hours(w, FIRST, WAIT + HOURS - 1)
    assert events(w)[-1] == "opened"
    pass_hours(w, FIRST + WAIT + HOURS - 1, 1)
    (missed,) = [r for r in w.ledger.records("call") if r.payload["event"] == "deadline_missed"]
    assert missed.as_of == parse_time(call.opened_at) + (WAIT + HOURS) * HOUR
    for record in w.records():
        assert w.replay(record).verdict == "equal"


def test_an_approved_override_of_the_deadline_stays_in_force(w: Watched) -> None:
    call_id = called(w)
    (before,) = read_open_calls(w.ledger)
    wanted = later(before.opened_at, 20)
    asked = command(w, "override", call_id=call_id, deadline=wanted, reason="bank holiday")
    command(w, "approve", "risk", override_id=asked["overrides"][0]["override_id"])
    command(w, "acknowledge_call", "venue", call_id=call_id)
    pass_hours(w, FIRST, WAIT + HOURS + 1)
    (after,) = read_open_calls(w.ledger)
    assert (after.state, after.deadline) == ("called", wanted)
    assert after.acknowledged_at == before.opened_at


def test_advice_and_liquidations_take_no_acknowledgement(w: Watched) -> None:
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    (call,) = read_open_calls(w.ledger)
    assert call.kind == "liquidation"
    refused = command(w, "acknowledge_call", "venue", call_id=call.call_id)["refused"]
    assert "only an open margin call" in refused
    assert "there is no call" in command(w, "acknowledge_call", "venue", call_id="x")["refused"]
    assert read_open_calls(w.ledger)[0].acknowledged_at is None
