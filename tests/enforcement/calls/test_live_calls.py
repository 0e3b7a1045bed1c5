"""Calls of a live book: opened, raised, met in part, met, missed; nothing twice after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enforcement.record.live_enforcement import LiveEnforcement
from enforcement.record.rows import read_open_calls
from ledger.records import Record
from ledger.store import Ledger
from ledger.verify import verify
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, parse_time
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, deltas, snapshot, watched

Start = Callable[..., Watched]

FIRST = 230
"""Bars that the market has at the start; later ones are posted."""


@pytest.fixture
def start(market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger) -> Start:
    def begin(rows: int = FIRST, on: Ledger | None = None) -> Watched:
        where = on or ledger
        return watched(market, ruleset, bundles, where, rows, LiveEnforcement(where))

    return begin


def events(ledger: Ledger) -> list[Record]:
    return list(ledger.records("call"))


def summary(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(r.account_id or "", r.payload["event"], r.payload["state"]) for r in events(ledger)]


def by_event(ledger: Ledger) -> dict[str, Record]:
    return {record.payload["event"]: record for record in events(ledger)}


def test_a_call_is_met_in_part_and_met_by_deposits(start: Start, ledger: Ledger) -> None:
    w = start()
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
    w.settle()
    opened = by_event(ledger)["opened"].payload
    part = {"kind": "deposit", "asset": "USD", "amount": 10.0}
    w.update(deltas("c", 2, part))
    w.settle()
    (call,) = read_open_calls(ledger)
    assert (call.state, call.types[0]) == ("partly_met", "proactive")
    assert call.outstanding <= opened["amount"] + 1e-6
    w.update(deltas("c", 3, part | {"amount": round(call.outstanding + 0.005, 2)}))
    w.settle()
    assert [event for _, event, _ in summary(ledger)][:3] == ["opened", "partly_met", "met"]
    met = by_event(ledger)["met"].payload
    assert met["call_id"] == opened["call_id"]
    assert [cure["source"] for cure in met["cures"]] == ["deposit"]
    assert read_open_calls(ledger) == []


def test_the_cure_ledger_adds_up(start: Start, ledger: Ledger) -> None:
    """Deposits, trades, prices and the level explain every change of what is outstanding."""
    w = start()
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
    w.settle()
    w.update(deltas("c", 2, {"kind": "deposit", "asset": "USD", "amount": 5.0}))
    w.marks(0.9999, 60)
    w.settle()
    w.update(snapshot("c", 3, 1_005.0, BTC=0.49))
    w.settle()
    w.bars(FIRST, 1.001)
    w.settle()
    known = events(ledger)
    assert len(known) >= 3
    missing = known[0].payload["outstanding"]
    sources = set()
    for record in known[1:]:
        cures = record.payload["cures"]
        sources |= {cure["source"] for cure in cures}
        left = missing - sum(cure["amount"] for cure in cures)
        if record.payload["event"] != "met":
            assert record.payload["outstanding"] == pytest.approx(left, abs=0.03)
            missing = record.payload["outstanding"]
    assert {"deposit", "trade"} <= sources


def test_a_missed_deadline_ends_in_liquidation_and_a_stop_out_does_so_at_once(
    start: Start, ledger: Ledger
) -> None:
    w = start()
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
    w.settle()
    for row in range(FIRST, 256):
        w.bars(row)
        w.settle()
        if "deadline_missed" in by_event(ledger):
            break
    missed = by_event(ledger)["deadline_missed"]
    assert missed.payload["state"] == "reduce_only"
    deadline = by_event(ledger)["opened"].payload["deadline"]
    late = (missed.as_of or 0) - parse_time(deadline)
    assert 0 <= late < HOUR
    assert "grace_ended" in by_event(ledger)
    w.update(snapshot("d", 1, 400.0, BTC=0.5))
    w.settle()
    stopped = by_event(ledger)["stop_out"].payload
    assert (stopped["account_id"], stopped["kind"]) == ("d", "liquidation")
    assert (stopped["state_before"], stopped["state"]) == ("healthy", "liquidating")


def drive(w: Watched, *, restarts: bool) -> list[dict[str, Any]]:
    """Two called accounts through falling bars; the events without the evaluation they are of."""
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5), snapshot("d", 1, 2_000.0, BTC=1.0))
    w.settle()
    for k, row in enumerate(range(FIRST, 262)):
        if k == 3:
            w.update(deltas("c", 2, {"kind": "deposit", "asset": "USD", "amount": 20.0}))
        w.bars(row, 1.0 - 0.001 * (k % 7))
        if restarts:
            w.restart()
        w.settle()
    return [
        {key: value for key, value in record.payload.items() if key != "evaluation"}
        for record in events(w.ledger)
    ]


def test_a_monitor_that_starts_again_after_each_step_records_the_same(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    with Ledger(f"sqlite:///{tmp_path}/other.db") as other:
        undisturbed = drive(start(on=other), restarts=False)
    assert drive(start(), restarts=True) == undisturbed
    assert verify(ledger.engine).intact
    assert len(undisturbed) > 4
    ids = [(event["call_id"], event["number"]) for event in undisturbed]
    assert len(set(ids)) == len(ids)


def test_steps_that_were_missed_are_evaluated_at_their_own_time(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """Bars that were posted while no monitor ran give the events of one that ran on."""
    found = []
    with Ledger(f"sqlite:///{tmp_path}/other.db") as other:
        for down, on in ((False, other), (True, ledger)):
            w = start(on=on)
            w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
            w.settle()
            for row in range(FIRST, 258):
                w.post_elsewhere(row) if down else w.bars(row)
                if not down:
                    w.settle()
            w.settle()
            found.append([(r.id, r.as_of, r.payload["event"]) for r in events(on)])
    assert found[0] == found[1]
    assert "deadline_missed" in {event for _, _, event in found[0]}


def test_every_evaluation_replays_with_its_part_of_enforcement(start: Start) -> None:
    w = start()
    drive(w, restarts=False)
    for record in w.records():
        assert ("enforcement" in record.payload) == ("state" in record.payload["columns"])
        assert w.replay(record).verdict == "equal"
