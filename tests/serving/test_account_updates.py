"""Snapshots and changes of accounts over HTTP: the sequence contract as a client meets it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text

from ledger.store import Ledger
from monitoring.book.account_store import AccountStore
from monitoring.book.live_book import LiveBook

PERP = "BTCUSDT-PERP"
JSON = {"Content-Type": "application/json"}


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


FILL = {"kind": "fill", "instrument": PERP, "quantity": 1.0, "price": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        [FILL | {"quantity": 1e308, "price": 1e308}, FILL | {"quantity": -1e308, "price": 5e-324}],
        [FILL | {"instrument": "BTC-27MAR26-60000-C", "quantity": 1e308, "price": 1e308}],
        [{"kind": "deposit", "asset": "USD", "amount": 1.7e308}] * 2,
        [{"kind": "transfer", "asset": "BTC", "amount": -1.7e308}] * 2,
        [FILL | {"quantity": 1e308}] * 2,
        [FILL | {"quantity": 0.0}],
        [FILL | {"price": 0.0}],
        [FILL | {"instrument": "nothing"}],
        [{"kind": "deposit", "asset": "USD", "amount": -1.0}],
        [FILL] * 1_001,
        [],
    ],
)
def test_changes_that_no_account_can_hold_are_422_and_change_nothing(
    serve: Any, ledger: Ledger, changes: list[dict[str, Any]]
) -> None:
    client = serve().client
    put(client, "a", {"sequence": 1, "cash": 10.0})
    head = AccountStore(ledger).head()
    answer = post(client, {"account_id": "a", "sequence": 2, "deltas": changes})
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["detail"]
    assert AccountStore(ledger).head() == head


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e309", "9" * 400, '"1"'])
def test_numbers_that_are_none_are_422(serve: Any, number: str) -> None:
    body = '{"sequence": 1, "cash": %s}' % number  # noqa: UP031  braces
    answer = serve().client.put("/v1/accounts/a", content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["type"].startswith("urn:margincast:problem:")


@pytest.mark.parametrize("ts", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
def test_times_beyond_64_bits_are_422(serve: Any, ts: str) -> None:
    answer = put(serve().client, "a", {"sequence": 1, "cash": 1.0, "ts": ts})
    assert answer.status_code == 422
    assert ts in answer.json()["detail"]


def test_too_many_updates_are_422_and_too_long_a_body_413(serve: Any, ledger: Ledger) -> None:
    client = serve(max_body_bytes=3_000_000).client
    many = [delta(f"a{i}", 1) for i in range(20_001)]
    answer = post(client, *many)
    assert answer.status_code == 422
    assert "updates" in answer.json()["detail"]
    legs = [{"instrument": f"X{i}USDT-PERP", "quantity": 1.0} for i in range(80_000)]
    for longer in (
        put(client, "a", {"sequence": 1, "cash": 1.0, "positions": legs}),
        post(
            client, {"account_id": "a", "sequence": 1, "snapshot": {"cash": 1, "positions": legs}}
        ),
    ):
        assert longer.status_code == 413
        assert longer.json()["status"] == 413
    assert AccountStore(ledger).head().seq == 0


def test_clients_that_put_one_account_at_once_leave_the_newest_snapshot(
    serve: Any, ledger: Ledger
) -> None:
    client = serve().client
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda n: put(client, "a", {"sequence": n, "cash": float(n)}).json()["status"],
                [*range(1, 21), *range(1, 21)],
            )
        )
    assert set(answers) <= {"applied", "duplicate"}
    store = AccountStore(ledger)
    found = store.find("a")
    assert found is not None
    assert (found.sequence, found.account.cash) == (20, 20.0)
    assert answers.count("applied") == len(list(store.updates()))
    assert store.problems() == []


def test_an_account_whose_row_vanished_is_asked_for_a_snapshot(serve: Any, ledger: Ledger) -> None:
    client = serve().client
    put(client, "a", {"sequence": 1, "cash": 10.0})
    with ledger.transaction() as connection:
        connection.execute(text("DELETE FROM accounts"))
    problem = post(client, delta("a", 2)).json()
    assert problem["results"][0]["status"] == "gap"
    assert any("does not contain" in one for one in AccountStore(ledger).problems())


def test_each_update_is_counted_by_what_became_of_it(serve: Any) -> None:
    client = serve().client
    put(client, "a", {"sequence": 1, "cash": 10.0})
    put(client, "a", {"sequence": 1, "cash": 10.0})
    post(client, delta("a", 2), delta("a", 4), delta("b", 1))
    shown = client.get("/metrics").text
    counted = {"applied": 3, "duplicate": 1, "gap": 1, "conflict": 0, "out_of_sync": 0}
    for status, count in counted.items():
        line = f'margincast_account_updates_total{{status="{status}"}} {float(count)}'
        assert line in shown
