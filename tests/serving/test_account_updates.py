"""Snapshots and changes of accounts over HTTP: the sequence contract as a client meets it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from ledger.store import Ledger
from monitoring.book.live_book import LiveBook

PERP = "BTCUSDT-PERP"


def put(client: Any, account: str, body: dict[str, Any], **options: Any) -> Any:
    return client.put(f"/v1/accounts/{quote(account, safe='')}", json=body, **options)


def post(client: Any, *updates: dict[str, Any]) -> Any:
    return client.post("/v1/accounts/updates", json={"updates": list(updates)})


def delta(account: str, sequence: int, amount: float = 5.0) -> dict[str, Any]:
    change = {"kind": "deposit", "asset": "USD", "amount": amount}
    return {"account_id": account, "sequence": sequence, "deltas": [change]}


def test_a_snapshot_is_applied_once(serve: Any) -> None:
    client = serve().client
    body = {
        "sequence": 7,
        "cash": 1_000.0,
        "positions": [{"instrument": PERP, "quantity": 0.5, "entry_price": 60_000.0}],
    }
    first, second = put(client, "desk/7", body), put(client, "desk/7", body)
    assert first.status_code == second.status_code == 200
    assert first.json() == {
        "account_id": "desk/7",
        "sequence": 7,
        "status": "applied",
        "in_sync": True,
        "expected": 8,
    }
    assert second.json()["status"] == "duplicate"


def test_a_gap_is_answered_409_with_the_expected_number(serve: Any) -> None:
    client = serve().client
    assert put(client, "a", {"sequence": 1, "cash": 10.0}).status_code == 200
    answer = post(client, delta("a", 3))
    assert answer.status_code == 409
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["type"] == "urn:margincast:problem:update-gap"
    assert "2 was expected" in problem["detail"]
    (result,) = problem["results"]
    assert (result["status"], result["expected"], result["in_sync"]) == ("gap", 2, False)
    again = post(client, delta("a", 2)).json()
    assert again["type"] == "urn:margincast:problem:out-of-sync"
    assert put(client, "a", {"sequence": 3, "cash": 20.0}).json()["in_sync"] is True
    assert post(client, delta("a", 4)).json() == {
        "results": [
            {"account_id": "a", "sequence": 4, "status": "applied", "in_sync": True, "expected": 5}
        ]
    }


def test_one_update_out_of_sequence_does_not_hold_up_the_others(serve: Any) -> None:
    endpoint = serve()
    answer = post(endpoint.client, delta("a", 1), delta("b", 2), delta("a", 2), delta("c", 1))
    assert answer.status_code == 409
    problem = answer.json()
    assert [one["status"] for one in problem["results"]] == ["applied", "gap", "applied", "applied"]
    assert "1 of 4 updates" in problem["detail"]


def test_a_number_with_other_content_is_a_conflict(serve: Any) -> None:
    client = serve().client
    put(client, "a", {"sequence": 1, "cash": 10.0})
    answer = put(client, "a", {"sequence": 1, "cash": 11.0})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:margincast:problem:update-conflict"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"sequence": 0, "cash": 1.0}, "sequence"),
        ({"cash": 1.0}, "sequence"),
        ({"sequence": 1, "cash": "1"}, "cash"),
        ({"sequence": 1, "cash": 1.0, "margin": 2}, "margin"),
        ({"sequence": 1, "cash": 1.0, "ts": "not a time at all"}, "not a time at all"),
    ],
)
def test_a_malformed_snapshot_is_refused_by_name(
    serve: Any, body: dict[str, Any], named: str
) -> None:
    answer = put(serve().client, "a", body)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]


def test_an_impossible_change_is_422_and_takes_no_number(serve: Any) -> None:
    client = serve().client
    put(
        client,
        "a",
        {"sequence": 1, "cash": 1.0, "positions": [{"instrument": PERP, "quantity": 1}]},
    )
    fill = {"kind": "fill", "instrument": PERP, "quantity": 1.0, "price": 50_000.0}
    answer = post(client, {"account_id": "a", "sequence": 2, "deltas": [fill]})
    assert answer.status_code == 422
    assert "no entry price" in answer.json()["detail"]
    assert post(client, delta("a", 2)).status_code == 200


@pytest.mark.parametrize("account", ["updates", "a/decisions", "x y", "ü/é", "a" * 128])
def test_any_id_names_an_account(serve: Any, account: str) -> None:
    answer = put(serve().client, account, {"sequence": 1, "cash": 1.0})
    assert answer.status_code == 200
    assert answer.json()["account_id"] == account


def test_an_id_that_no_account_can_have_is_refused(serve: Any) -> None:
    answer = put(serve().client, "a" * 129, {"sequence": 1, "cash": 1.0})
    assert answer.status_code == 422


def test_the_book_of_the_ledger_is_what_was_sent(serve: Any, ledger: Ledger) -> None:
    client = serve().client
    put(client, "a", {"sequence": 1, "cash": 100.0})
    post(client, delta("a", 2), delta("b", 1, 7.0))
    book = LiveBook(ledger)
    assert set(book.catch_up()) == {"a", "b"}
    held = [book.find(name) for name in ("a", "b")]
    assert [None if one is None else one.account.cash for one in held] == [105.0, 7.0]
