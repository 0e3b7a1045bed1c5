"""Calls, instructions and controls over HTTP, beside a monitor that leads."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from sqlalchemy import insert

from enforcement.controls.commands import CHAIN
from ledger.following import SharedChain
from ledger.schema import outbox, writing
from ledger.store import Ledger
from serving.enforcement import command_posts
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]


@pytest.fixture
def ledger(either_ledger: Ledger) -> Ledger:
    return either_ledger


def override(desk: Desk, **more: Any) -> dict[str, Any]:
    wanted = {"account_id": "desk/1", "add_on": 1e5, "expires": desk.later(10), "reason": "hedged"}
    return wanted | more


def detail(answer: Any, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:margincast:problem:{kind}"
    return str(problem["detail"])


def test_a_call_is_listed_and_shown_with_its_record(desk: Desk) -> None:
    call = desk.call()
    assert call["state"] == "called"
    shown = desk.get(f"/v1/calls/{call['call_id']}")
    assert shown["call"] == call
    assert shown["events"][0]["event"] == "opened"
    assert shown["events"][0]["event_id"] == f"{call['call_id']}-1"
    account = desk.get("/v1/accounts/desk%2F1")
    assert account["calls"] == [call]
    assert desk.get("/v1/accounts/calm")["calls"] == []


def test_calls_are_filtered_and_paged(desk: Desk) -> None:
    w = desk.watched
    w.update(*({**update, "account_id": f"more-{i}"} for i, update in enumerate(_updates(7))))
    w.settle()
    pages: list[str] = []
    cursor = None
    while True:
        query = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page = desk.get("/v1/calls", **query)
        assert len(page["calls"]) <= 3
        pages += [call["call_id"] for call in page["calls"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    everything = desk.get("/v1/calls")["calls"]
    assert pages == [call["call_id"] for call in everything]
    assert len(everything) == 8
    assert [c["account_id"] for c in desk.get("/v1/calls", account="more-2")["calls"]] == ["more-2"]
    assert desk.get("/v1/calls", open="false")["calls"] == []
    assert desk.get("/v1/calls", type="settlement")["calls"] == []
    assert len(desk.get("/v1/calls", type="proactive", state="called")["calls"]) == 8


def _updates(count: int) -> list[dict[str, Any]]:
    legs = [{"instrument": "BTCUSDT-PERP", "quantity": 0.5}]
    return [{"sequence": 1, "snapshot": {"cash": 1_000.0, "positions": legs}}] * count


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/calls?state=angry", "angry"),
        ("/v1/calls?type=margin", "maintenance_margin"),
        ("/v1/calls?limit=0", "limit is 0"),
        ("/v1/calls?cursor=AAAA", "begin with the first page"),
        ("/v1/instructions?state=called", "acknowledged"),
        ("/v1/instructions?type=open", "close"),
        ("/v1/admin/deliveries?status=lost", "dead"),
        ("/v1/calls?open=maybe", "open: Expected"),
        ("/v1/calls?account=a%00b", "NUL"),
        ("/v1/instructions?account=a%00b", "NUL"),
        ("/v1/instructions?call_id=a%00b", "NUL"),
    ],
)
def test_impossible_filters_are_422(desk: Desk, path: str, words: str) -> None:
    answer = desk.endpoint.client.get(path, headers=desk.endpoint.key("read"))
    assert words in detail(answer, 422, "invalid-request")


def test_a_cursor_of_another_listing_is_422(desk: Desk) -> None:
    desk.watched.update(*({**update, "account_id": "more"} for update in _updates(1)))
    desk.watched.settle()
    cursor = desk.get("/v1/calls", limit=1)["next_cursor"]
    query = {"cursor": cursor}
    headers = desk.endpoint.key("read")
    answer = desk.endpoint.client.get("/v1/instructions", params=query, headers=headers)
    assert "pages of calls" in detail(answer, 422, "invalid-request")


def test_a_dispute_counts_until_a_person_resolves_it(desk: Desk) -> None:
    call_id = desk.call()["call_id"]
    path = f"/v1/calls/{call_id}"
    with desk.leading():
        answer = desk.post(f"{path}/dispute", {"reason": "price", "note": "index"}, "accounts")
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"] == "applied"
        disputed = desk.call()
        assert (disputed["state"], disputed["dispute"]["reason"]) == ("disputed", "price")
        again = desk.post(f"{path}/dispute", {"reason": "model"}, "accounts")
        assert "disputed" in detail(again, 409, "command-refused")
        body = {"outcome": "rejected", "note": "the index holds"}
        assert desk.post(f"{path}/resolve", body, "approve").status_code == 200
        assert desk.call()["dispute"] is None
        once = desk.post(f"{path}/dispute", {"reason": "model"}, "accounts")
        assert "disputed once" in detail(once, 409, "command-refused")


def test_a_call_is_acknowledged_once_also_after_a_restart(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = desk.call()["call_id"]
    path, key = f"/v1/calls/{call_id}/ack", {"Idempotency-Key": "notice-1"}
    body = {"reference": "n-1"}
    assert desk.call()["acknowledged_at"] is None
    detail(desk.post(path, body, "accounts"), 403, "forbidden")
    assert "n-2" in detail(desk.post("/v1/calls/n-2/ack", {}, "venue"), 404, "not-found")
    with monkeypatch.context() as patched:
        patched.setattr(command_posts, "WAIT_SECONDS", 0.1)
        assert desk.post(path, body, "venue", **key).status_code == 202
    desk.watched.restart()
    desk.watched.settle()
    repeated = desk.post(path, body, "venue", **key)
    assert (repeated.status_code, repeated.json()["result"]) == (200, "applied")
    again = desk.post(path, {}, "venue")
    assert "acknowledged already" in detail(again, 409, "command-refused")
    shown = desk.get(f"/v1/calls/{call_id}")
    outcome = repeated.json()["outcome"]
    assert shown["call"]["acknowledged_at"] == outcome["acknowledgement"]["time"]
    opened, acknowledged = shown["events"][:2]
    assert (opened["event"], acknowledged["event"]) == ("opened", "acknowledged")
    assert acknowledged["acknowledgement"]["reference"] == "n-1"
    assert acknowledged["deadlines"] == opened["deadlines"] == shown["call"]["deadlines"]


def test_an_override_counts_once_another_key_approves_it(desk: Desk) -> None:
    before = desk.call()["outstanding"]
    with desk.leading():
        answer = desk.post("/v1/overrides", override(desk), "approve")
        assert answer.json()["result"] == "pending", answer.text
        name = answer.json()["command_id"]
        assert [o["override_id"] for o in desk.get("/v1/overrides")["overrides"]] == [name]
        own = desk.post(f"/v1/overrides/{name}/approve", {}, "approve")
        assert "another key" in detail(own, 409, "command-refused")
        approved = desk.post(f"/v1/overrides/{name}/approve", {}, "approve-2")
        assert approved.json()["result"] == "applied", approved.text
        (active,) = desk.get("/v1/overrides")["overrides"]
        assert active["state"] == "active"
        assert desk.get(f"/v1/calls/{desk.call()['call_id']}")["overrides"] == [active]
    assert desk.call()["outstanding"] > before + 9e4
    with desk.leading():
        ended = desk.post(f"/v1/overrides/{name}/reject", {"note": "over"}, "approve")
        assert ended.json()["outcome"]["overrides"][0]["state"] == "ended"
        assert desk.get("/v1/overrides")["overrides"] == []


def test_impossible_overrides_are_named(desk: Desk) -> None:
    def refused(status: int, kind: str, **more: Any) -> str:
        return detail(desk.post("/v1/overrides", override(desk, **more), "approve"), status, kind)

    assert "floor" in refused(409, "command-refused", add_on=0.0)
    assert "nobody" in refused(404, "not-found", account_id="nobody")
    assert "one thing" in refused(422, "invalid-request", call_id="x")
    assert "expires" in refused(422, "invalid-request", expires="2020-01-01T00:00:00Z")
    assert "reason" in refused(422, "invalid-request", reason="")
    assert SharedChain(desk.endpoint.ledger, CHAIN).head().seq == 0


def test_modes_are_set_at_once(desk: Desk) -> None:
    with desk.leading():
        body = {"mode": ["no_calls", "rules_only"], "reason": "feed is down"}
        assert desk.post("/v1/admin/mode", body, "admin").json()["result"] == "applied"
        one = {"mode": "no_instructions", "symbol": "BTCUSDT", "reason": "halt"}
        assert desk.post("/v1/admin/mode", one, "admin").status_code == 200
        assert desk.get("/v1/admin/mode") == {
            "modes": ["no_calls", "rules_only"],
            "markets": {"BTCUSDT": ["no_instructions"]},
        }
        back = {"mode": "normal", "reason": "feed is back"}
        assert desk.post("/v1/admin/mode", back, "admin").status_code == 200
        assert desk.get("/v1/admin/mode")["modes"] == ["normal"]
    unknown = desk.post("/v1/admin/mode", one | {"symbol": "NOPEUSDT"}, "admin")
    assert "NOPEUSDT" in detail(unknown, 404, "not-found")


def test_the_venue_answers_an_instruction(desk: Desk) -> None:
    w = desk.watched
    w.update(snapshot("drowning", 1, 200.0, BTC=0.5))
    w.settle()
    listed = desk.get("/v1/instructions", open="true", account="drowning", type="close")
    (close,) = listed["instructions"]
    path = f"/v1/instructions/{close['instruction_id']}"
    assert desk.get(path)["instruction"] == close
    assert [event["event"] for event in desk.get(path)["events"]] == ["issued"]
    assert close in desk.get(f"/v1/calls/{close['call_id']}")["instructions"]
    wanted = close["parameters"]["quantity"]
    wrong = desk.post(f"{path}/ack", {"status": "filled", "quantity": -wanted}, "venue")
    assert "sign" in detail(wrong, 422, "invalid-request")
    missing = desk.post("/v1/instructions/nope/ack", {"status": "filled"}, "venue")
    assert "nope" in detail(missing, 404, "not-found")
    with desk.leading():
        got = {"status": "acknowledged", "reference": "v-17"}
        assert desk.post(f"{path}/ack", got, "venue").json()["result"] == "applied"
        assert "already" in detail(desk.post(f"{path}/ack", got, "venue"), 409, "command-refused")
        filled = {"status": "filled", "quantity": wanted, "price": 60_010.0}
        assert desk.post(f"{path}/ack", filled, "venue").status_code == 200
        late = desk.post(f"{path}/ack", filled, "venue")
        assert "takes no answer" in detail(late, 409, "command-refused")
    shown = desk.get(path)
    assert shown["instruction"]["answer"]["price"] == 60_010.0
    assert [event["event"] for event in shown["events"]] == ["issued", "acknowledged", "filled"]
    assert desk.get("/v1/instructions", state="filled")["instructions"] == [shown["instruction"]]


def test_without_a_leader_a_command_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_posts, "WAIT_SECONDS", 0.1)
    body = {"mode": "no_calls", "reason": "drill"}
    answer = desk.post("/v1/admin/mode", body, "admin")
    assert answer.status_code == 202
    assert answer.json()["result"] == "waiting"
    place = answer.headers["location"]
    assert desk.get(place)["result"] == "waiting"
    desk.watched.settle()
    assert desk.get(place)["result"] == "applied"
    assert desk.get(place)["outcome"]["modes"] == ["no_calls"]


def test_a_repeated_key_appends_one_command(desk: Desk) -> None:
    body = {"mode": "no_calls", "reason": "drill"}
    key = {"Idempotency-Key": "drill-1"}
    with desk.leading():
        first = desk.post("/v1/admin/mode", body, "admin", **key)
        again = desk.post("/v1/admin/mode", body, "admin", **key)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert SharedChain(desk.endpoint.ledger, CHAIN).head().seq == 1
    other = desk.post("/v1/admin/mode", body | {"reason": "x"}, "admin", **key)
    detail(other, 409, "idempotency-conflict")


def test_a_command_that_the_leader_refuses_is_409(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two disputes are posted before the leader steps: the endpoint sees no fault in either."""
    monkeypatch.setattr(command_posts, "WAIT_SECONDS", 0.1)
    path = f"/v1/calls/{desk.call()['call_id']}/dispute"
    bodies = [{"reason": "price"}, {"reason": "model"}]
    keys = [{"Idempotency-Key": str(i)} for i in range(2)]
    for body, key in zip(bodies, keys, strict=True):
        assert desk.post(path, body, "accounts", **key).status_code == 202
    desk.watched.settle()
    assert desk.post(path, bodies[0], "accounts", **keys[0]).status_code == 200
    refused = desk.post(path, bodies[1], "accounts", **keys[1])
    assert "disputed" in detail(refused, 409, "command-refused")


def test_dead_notifications_are_listed_and_skipped(desk: Desk) -> None:
    call_id = desk.call()["call_id"]
    row = {
        "account_id": "desk/1",
        "created_at": 1,
        "body": b"",
        "attempts": 5,
        "next_attempt_at": 1,
        "detail": "503",
    }
    rows = [
        row | {"event_id": f"{call_id}-1", "sink": "desk", "sequence": 1, "status": "dead"},
        row | {"event_id": f"{call_id}-2", "sink": "desk", "sequence": 2, "status": "pending"},
    ]
    with writing(desk.endpoint.ledger.engine) as connection:
        connection.execute(insert(outbox), rows)
    (dead,) = desk.get("/v1/admin/deliveries", status="dead")["deliveries"]
    assert (dead["event_id"], dead["status"], dead["detail"]) == (f"{call_id}-1", "dead", "503")
    first = desk.get("/v1/admin/deliveries", limit=1)
    assert desk.get("/v1/admin/deliveries", cursor=first["next_cursor"])["deliveries"][0][
        "event_id"
    ].endswith("-2")
    shown = desk.get(f"/v1/calls/{call_id}")["deliveries"]
    assert dead in shown
    path, body = f"/v1/admin/deliveries/{call_id}-1/skip", {"sink": "desk", "reason": "gone"}
    waiting = desk.post(f"/v1/admin/deliveries/{call_id}-2/skip", body, "admin")
    assert "pending" in detail(waiting, 409, "command-refused")
    with desk.leading():
        assert desk.post(path, body, "admin").status_code == 200
    assert desk.get("/v1/admin/deliveries", status="dead")["deliveries"] == []


@pytest.mark.parametrize("listing", ["calls", "instructions", "deliveries"])
@pytest.mark.parametrize("time", [2**63, -(2**63) - 1, 10**30])
def test_a_forged_cursor_is_422(desk: Desk, listing: str, time: int) -> None:
    path = "/v1/admin/deliveries" if listing == "deliveries" else f"/v1/{listing}"
    headers = desk.key("read")
    for forged in ([listing, time, "x", ""], [listing, 1, "x\0", ""], [listing, 1, "x", "y\0"]):
        cursor = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        answer = desk.endpoint.client.get(path, params={"cursor": cursor}, headers=headers)
        assert "first page" in detail(answer, 422, "invalid-request")


def test_ids_with_a_nul_do_not_exist(desk: Desk) -> None:
    headers = desk.key("admin")
    for path in ("/v1/calls/%00", "/v1/instructions/%00", "/v1/commands/%00"):
        detail(desk.endpoint.client.get(path, headers=headers), 404, "not-found")
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/v1/calls/%00/ack", {}),
        ("/v1/instructions/%00/ack", {"status": "filled"}),
        ("/v1/admin/deliveries/%00/skip", {"sink": "a", "reason": "r"}),
        ("/v1/admin/deliveries/x/skip", {"sink": "a\0", "reason": "r"}),
    ]
    for path, body in posts:
        detail(desk.post(path, body, "admin"), 404, "not-found")


def test_what_does_not_exist_is_404(desk: Desk) -> None:
    headers = desk.endpoint.key("admin")
    for path in ("/v1/calls/x", "/v1/instructions/x", "/v1/commands/x"):
        detail(desk.endpoint.client.get(path, headers=headers), 404, "not-found")
    for path in ("/v1/calls/x/dispute", "/v1/overrides/x/approve"):
        body = {"reason": "price"} if "dispute" in path else {}
        detail(desk.post(path, body, "admin"), 404, "not-found")
