"""The page of a call beside what the API says of it and takes: forms, answers, settlements."""

from __future__ import annotations

from typing import Any

from serving.console.rendering import money, number
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.console.pages import page, text
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]


def liquidated(desk: Desk, cash: float) -> dict[str, Any]:
    """The liquidation of an account that was below the stop-out level from the start."""
    desk.watched.update(snapshot("sunk", 1, cash, BTC=0.5))
    desk.watched.settle()
    (call,) = desk.get("/v1/calls", account="sunk", open="true")["calls"]
    assert (call["kind"], call["state"]) == ("liquidation", "liquidating")
    return dict(call)


def by_deadline(desk: Desk) -> list[str]:
    listed = desk.get("/v1/calls", open="true", sort="due")["calls"]
    return [str(call["account_id"]) for call in listed]


def test_a_call_whose_clock_stands_still_is_listed_after_those_that_are_due(desk: Desk) -> None:
    call = desk.call()
    desk.watched.marks(1.0, 60)
    desk.watched.update(snapshot("later", 1, 900.0, BTC=0.5))
    desk.watched.settle()
    assert by_deadline(desk) == ["desk/1", "later"]
    dispute = f"/v1/calls/{call['call_id']}/dispute"
    with desk.leading():
        assert desk.post(dispute, {"reason": "price"}, "accounts").status_code == 200
    assert by_deadline(desk) == ["later", "desk/1"]
    assert "stopped by the dispute" in text(page(desk, "/calls"))
    with desk.leading():
        body = {"outcome": "rejected", "note": "no"}
        resolved = desk.post(f"/v1/calls/{call['call_id']}/resolve", body, "approve")
        assert resolved.status_code == 200
    assert by_deadline(desk) == ["desk/1", "later"]


def test_a_call_that_is_disputed_in_part_stays_in_its_place(desk: Desk) -> None:
    call = desk.call()
    desk.watched.marks(1.0, 60)
    desk.watched.update(snapshot("later", 1, 900.0, BTC=0.5))
    desk.watched.settle()
    with desk.leading():
        body = {"reason": "price", "amount": 1.0}
        disputed = desk.post(f"/v1/calls/{call['call_id']}/dispute", body, "accounts")
        assert disputed.status_code == 200
    assert by_deadline(desk) == ["desk/1", "later"]
    assert "stopped by the dispute" not in text(page(desk, "/call", id=call["call_id"]))


def test_no_form_is_shown_that_the_call_does_not_allow(desk: Desk) -> None:
    desk.keys["admin"] = desk.endpoint.key("admin")
    path = f"/v1/calls/{liquidated(desk, 200.0)['call_id']}"
    shown = page(desk, f"/call?id={path.rpartition('/')[2]}", "admin")
    deadline = {"call_id": path.rpartition("/")[2], "deadline": desk.later(5), "reason": "x"}
    with desk.leading():
        for target, body in (
            (f"{path}/ack", {}),
            (f"{path}/dispute", {"reason": "price"}),
            ("/v1/overrides", deadline),
        ):
            assert desk.post(target, body, "admin").status_code == 409
    assert f'data-post="{path}/' not in shown
    assert 'name="deadline"' not in shown
    assert 'name="add_on"' in shown, "the add-on of its account can be overridden"
    said = text(shown)
    assert "Only a margin call is acknowledged" in said
    assert "Only a margin call that is called or partly met can be disputed" in said
    assert "A deadline moves only while" in said


def test_a_liquidation_shows_answers_and_who_bears_the_debt(desk: Desk) -> None:
    call = liquidated(desk, -5_000.0)
    given = desk.get("/v1/instructions", call_id=call["call_id"])["instructions"]
    close = next(one for one in given if one["kind"] == "close")
    quantity = close["parameters"]["quantity"]
    answer = {"status": "filled", "quantity": quantity, "price": 101_234.5, "reference": "<i>v-1"}
    with desk.leading():
        target = f"/v1/instructions/{close['instruction_id']}/ack"
        assert desk.post(target, answer, "venue").status_code == 200
    desk.watched.update(snapshot("sunk", 2, -9_000.0))
    desk.watched.settle()
    call = desk.get(f"/v1/calls/{call['call_id']}")["call"]
    assert call["state"] == "bad_debt"
    assert call["progress"]["settlements"] == 1
    shown = page(desk, f"/call?id={call['call_id']}")
    said = text(shown)
    assert f"{number(quantity, 8)} {number(101_234.5, 8)}" in said
    assert "reference <i>v-1" in said
    assert f"Settled by default resources {money(call['progress']['settled_amount'])}" in said
    record = f"{call['call_id']}-resources-1"
    assert f'href="/record?id={record}"' in shown
    settled = text(page(desk, "/record", id=record))
    assert "default_resources" in settled
    assert call["call_id"] in settled
