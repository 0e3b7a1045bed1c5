"""The work list, one call, and overrides, against the answers of the API."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import insert

from ledger.schema import outbox, writing
from serving.console.rendering import money, time
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.console.pages import called_ids, fragment, page, text
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

HOSTILE = "<script>alert('1')</script>\"/x"


def add_accounts(desk: Desk, *names: str) -> None:
    desk.watched.update(
        *(snapshot(name, 1, 900.0 + 9 * i, BTC=0.5) for i, name in enumerate(names))
    )
    desk.watched.settle()


def request_override(desk: Desk, **more: Any) -> str:
    """Request an override of the add-on of the called account; its id."""
    body = {"account_id": "desk/1", "add_on": 1e5, "expires": desk.later(10), "reason": "<b>hedge"}
    with desk.leading():
        answer = desk.post("/v1/overrides", body | more, "approve")
    assert answer.json()["result"] == "pending", answer.text
    return str(answer.json()["command_id"])


def test_the_work_list_shows_what_the_api_answers(desk: Desk) -> None:
    add_accounts(desk, "more-1", "more-2")
    listed = desk.get("/v1/calls", open="true", sort="due")["calls"]
    assert len(listed) == 3
    shown = page(desk, "/calls")
    assert called_ids(shown) == [call["call_id"] for call in listed]
    said = text(shown)
    for call in listed:
        for figure in (money(call["amount"]), money(call["outstanding"]), time(call["deadline"])):
            assert figure in said
    assert "left" in said
    assert "no override is pending and no call is disputed" in said


def test_calls_by_deadline_are_paged_without_a_gap(desk: Desk) -> None:
    add_accounts(desk, *(f"more-{i}" for i in range(5)))
    with desk.leading():
        call_id = desk.call()["call_id"]
        body = {"call_id": call_id, "deadline": desk.later(40), "reason": "holiday"}
        assert desk.post("/v1/overrides", body, "approve").status_code == 200
        for one in desk.get("/v1/overrides")["overrides"]:
            if one["state"] == "pending":
                desk.post(f"/v1/overrides/{one['override_id']}/approve", {}, "approve-2")
    listed = desk.get("/v1/calls", sort="due")["calls"]
    deadlines = [call["deadline"] or "~" for call in listed]
    assert deadlines == sorted(deadlines)
    assert listed[-1]["call_id"] == call_id
    found: list[str] = []
    target = "/calls?limit=2"
    while target:
        shown = page(desk, target)
        found += called_ids(shown)
        following = re.search(r'href="(/calls\?[^"]+)">Next page', shown)
        target = "" if following is None else following[1].replace("&amp;", "&")
    assert found == [call["call_id"] for call in listed]


def test_a_cursor_belongs_to_its_order(desk: Desk) -> None:
    add_accounts(desk, "more")
    cursor = desk.get("/v1/calls", limit=1, sort="due")["next_cursor"]
    headers = desk.key("read")
    other = desk.endpoint.client.get("/v1/calls", params={"cursor": cursor}, headers=headers)
    assert other.status_code == 422
    wrong = desk.endpoint.client.get("/v1/calls", params={"sort": "size"}, headers=headers)
    assert "newest, due" in wrong.json()["detail"]
    assert desk.get("/v1/calls")["calls"] == desk.get("/v1/calls", sort="newest")["calls"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"state": "called"}, 1),
        ({"state": "met"}, 0),
        ({"type": "proactive"}, 1),
        ({"type": "settlement"}, 0),
        ({"account": "desk/1"}, 1),
        ({"account": HOSTILE}, 0),
        ({"open": "false"}, 0),
        ({"open": "all", "sort": "newest"}, 1),
    ],
)
def test_filters_choose_calls(desk: Desk, query: dict[str, str], count: int) -> None:
    shown = page(desk, "/calls", **query)
    assert len(called_ids(shown)) == count
    assert ("No call matches" in shown) == (count == 0)
    assert "<script>alert" not in shown
    for name in ("state", "type", "open", "sort"):
        if name in query:
            assert f'value="{query[name]}" selected' in shown


@pytest.mark.parametrize("query", [{"state": "angry"}, {"open": "yes"}, {"cursor": "AAAA"}])
def test_impossible_filters_are_a_page_that_says_why(desk: Desk, query: dict[str, str]) -> None:
    answer = desk.endpoint.client.get("/calls", params=query, headers=desk.key("read"))
    assert answer.status_code == 422
    assert "<h1>" in answer.text


def test_parts_are_answered_alone(desk: Desk) -> None:
    call_id = desk.call()["call_id"]
    for path, name in (
        ("/calls", "list"),
        ("/calls", "waiting"),
        (f"/call?id={call_id}", "facts"),
        (f"/call?id={call_id}", "record"),
    ):
        part = fragment(desk, path, name)
        assert part.status_code == 200
        assert "<html" not in part.text
        assert "data-post" not in part.text  # forms of replaced parts would not be bound
        assert part.text.strip() in page(desk, path)
    assert fragment(desk, "/calls", "nothing").status_code == 422


@pytest.mark.parametrize("path", ["/calls", "/call?id=x", "/overrides", "/"])
def test_pages_need_a_key_with_the_scope_read(desk: Desk, path: str) -> None:
    client = desk.endpoint.client
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    assert client.get(path, headers=desk.key("score")).status_code == 403


def test_hostile_ids_stay_text(desk: Desk) -> None:
    add_accounts(desk, HOSTILE)
    (call,) = desk.get("/v1/calls", account=HOSTILE)["calls"]
    for path in ("/calls", f"/call?id={call['call_id']}"):
        shown = page(desk, path)
        assert "<script>alert" not in shown
        assert HOSTILE in text(shown)
    answer = desk.endpoint.client.get("/call", params={"id": HOSTILE}, headers=desk.key("read"))
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


def test_a_call_shows_its_record(desk: Desk) -> None:
    with desk.leading():
        path = f"/v1/calls/{desk.call()['call_id']}"
        body = {"reason": "price", "amount": 12.5, "note": "<i>index"}
        assert desk.post(f"{path}/dispute", body, "accounts").status_code == 200
    detail = desk.get(path)
    call = detail["call"]
    said = text(page(desk, "/call", id=call["call_id"]))
    for value in call["figures"].values():
        assert money(value) in said
    for event in detail["events"]:
        assert f"{time(event['time'])} {event['event'].replace('_', ' ')}" in said
    assert "price, 12.50 by " in said
    assert "<i>index" in said
    waiting = text(page(desk, "/calls"))
    assert "1 disputed call" in waiting
    assert "1 disputed calls" not in waiting


def test_forms_are_those_that_the_key_may_send(desk: Desk) -> None:
    call_id = desk.call()["call_id"]
    path = f"/v1/calls/{call_id}"
    forms = {"venue": f"{path}/ack", "accounts": f"{path}/dispute", "approve": "/v1/overrides"}
    with_read = {scope: desk.endpoint.key("read", scope) for scope in forms}
    for scope, headers in with_read.items():
        shown = desk.endpoint.client.get(f"/call?id={call_id}", headers=headers).text
        for other, target in forms.items():
            assert (f'data-post="{target}"' in shown) == (other == scope)
        assert "Needs a key with the scope" in text(shown)
    desk.keys["admin"] = desk.endpoint.key("admin")
    with desk.leading():
        desk.post(f"{path}/dispute", {"reason": "price"}, "accounts")
        desk.post(f"{path}/ack", {}, "venue")
    shown = page(desk, f"/call?id={call_id}", "admin")
    assert f'data-post="{path}/resolve"' in shown
    assert f'data-post="{path}/dispute"' not in shown
    assert f'data-post="{path}/ack"' not in shown
    assert "stopped by the dispute" in shown
    with desk.leading():
        done = {"outcome": "rejected", "note": "no"}
        assert desk.post(f"{path}/resolve", done, "approve").status_code == 200
    shown = page(desk, f"/call?id={call_id}", "admin")
    assert "data-post" in shown
    assert f'data-post="{path}/resolve"' not in shown
    assert "disputed once" in shown


def test_who_requested_an_override_is_offered_no_approval(desk: Desk) -> None:
    desk.keys["approve"] = desk.endpoint.key("approve", "read")
    desk.keys["approve-2"] = desk.endpoint.key("approve", "read")
    name = request_override(desk)
    approval, rejection = (f'data-post="/v1/overrides/{name}/{x}"' for x in ("approve", "reject"))
    own = page(desk, "/overrides", "approve")
    assert approval not in own
    assert rejection in own
    assert "Four eyes" in own
    other = page(desk, "/overrides", "approve-2")
    assert approval in other
    assert "Four eyes" not in other
    assert "<b>hedge" in text(other)
    assert "<b>hedge" not in other
    reader = page(desk, "/overrides")
    assert "data-post" not in reader
    assert "needs the scope approve" in text(reader)
    assert "<b>hedge" in text(page(desk, "/calls"))
    with desk.leading():
        assert desk.post(f"/v1/overrides/{name}/approve", {}, "approve-2").status_code == 200
    active = page(desk, "/overrides", "approve")
    assert approval not in active
    assert "Active overrides" in active
    assert rejection in active
    assert money(1e5) in text(page(desk, "/call", id=desk.call()["call_id"]))


def test_modes_and_dead_notifications_are_for_administrators(desk: Desk) -> None:
    event = f"{desk.call()['call_id']}-1"
    row = {
        "event_id": event,
        "sink": "desk<i>",
        "account_id": "desk/1",
        "sequence": 1,
        "created_at": 1,
        "body": b"",
        "status": "dead",
        "attempts": 5,
        "next_attempt_at": 1,
        "detail": "503",
    }
    with writing(desk.endpoint.ledger.engine) as connection:
        connection.execute(insert(outbox), [row])
    with desk.leading():
        body = {"mode": ["no_calls", "rules_only"], "reason": "drill"}
        assert desk.post("/v1/admin/mode", body, "admin").status_code == 200
    shown = page(desk, "/overrides", "admin")
    assert f'data-post="/v1/admin/deliveries/{event}/skip"' in shown
    assert 'value="desk&lt;i&gt;"' in shown
    assert 'data-post="/v1/admin/mode"' in shown
    assert "no calls, rules only" in text(shown)
    reader = page(desk, "/overrides")
    assert "data-post" not in reader
    assert "desk<i>" in text(reader)
    assert "0 pending, 1 dead" in text(page(desk, "/"))
    with desk.leading():
        body = {"sink": "desk<i>", "reason": "gone"}
        path = f"/v1/admin/deliveries/{event}/skip"
        assert desk.post(path, body, "admin").status_code == 200
    assert event not in page(desk, "/overrides", "admin")


def test_open_calls_follow_what_changes(desk: Desk) -> None:
    assert "Open 1 " in text(page(desk, "/"))
    add_accounts(desk, "more-1")
    assert "Open 2 " in text(page(desk, "/"))
    desk.watched.update(snapshot("desk/1", 2, 1e6, BTC=0.5))
    desk.watched.settle()
    (call,) = desk.get("/v1/calls", open="true")["calls"]
    said = text(page(desk, "/"))
    assert f"Open 1 {money(call['outstanding'])} outstanding" in said
    assert f"called 1 ( {money(call['outstanding'])} )" in said.replace("(", "( ").replace(
        ")", " )"
    )
