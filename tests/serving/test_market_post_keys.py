"""Idempotency keys of posted bars and quotes: one key, one record, one answer."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import LedgerError
from tests.endpoint_fixtures import SmallMarket

KEY = {"Idempotency-Key": "retry-1"}


def count(ledger: Ledger, kind: str) -> int:
    return len(list(ledger.records(kind)))


@pytest.fixture
def early(market: SmallMarket) -> SmallMarket:
    """The market before its last step, whose bars are posted."""
    return market.head(len(market.panel.opens) - 1)


@pytest.fixture
def bars(market: SmallMarket) -> dict[str, Any]:
    last = len(market.panel.opens) - 1
    return {"interval": "1h", "bars": market.bars(range(last, last + 1))}


@pytest.fixture
def quotes(market: SmallMarket) -> dict[str, Any]:
    last = len(market.panel.opens) - 1
    bar = market.bar(last, 0)
    return {"quotes": [{"instrument": "BTCUSDT-PERP", "ts": bar["ts"], "mark": bar["open"]}]}


def test_the_same_bars_under_a_key_are_recorded_once_and_answered_alike(
    serve: Any, early: SmallMarket, bars: dict[str, Any]
) -> None:
    endpoint = serve(early)
    first = endpoint.client.post("/v1/market/bars", json=bars, headers=KEY)
    assert first.status_code == 200
    assert "Idempotent-Replayed" not in first.headers
    assert {result["status"] for result in first.json()["results"]} == {"applied"}
    recorded = count(endpoint.ledger, "bars")
    for again in (endpoint, serve(early)):  # and after a restart
        repeated = again.client.post("/v1/market/bars", json=bars, headers=KEY)
        assert (repeated.status_code, repeated.content) == (200, first.content)
        assert repeated.headers["Idempotent-Replayed"] == "true"
        assert count(endpoint.ledger, "bars") == recorded
    other = bars | {"final": True}
    conflict = endpoint.client.post("/v1/market/bars", json=other, headers=KEY)
    assert conflict.status_code == 409
    assert conflict.json()["type"].endswith(":idempotency-conflict")
    assert verify(endpoint.ledger.engine).intact


def test_quotes_under_a_key_are_recorded_once_and_answered_alike(
    serve: Any, early: SmallMarket, quotes: dict[str, Any]
) -> None:
    endpoint = serve(early)
    first = endpoint.client.post("/v1/market/quotes", json=quotes, headers=KEY)
    assert first.status_code == 200, first.text
    recorded = count(endpoint.ledger, "quotes")
    assert recorded == 1
    repeated = endpoint.client.post("/v1/market/quotes", json=quotes, headers=KEY)
    assert (repeated.content, repeated.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert count(endpoint.ledger, "quotes") == recorded
    other = {"quotes": [quotes["quotes"][0] | {"mark": 1.0}]}
    assert endpoint.client.post("/v1/market/quotes", json=other, headers=KEY).status_code == 409


def test_an_answer_that_recorded_nothing_new_is_kept_as_well(
    serve: Any, early: SmallMarket, bars: dict[str, Any]
) -> None:
    """The second post, under another key, finds its bars there."""
    endpoint = serve(early)
    endpoint.client.post("/v1/market/bars", json=bars)
    recorded = count(endpoint.ledger, "bars")
    first = endpoint.client.post("/v1/market/bars", json=bars, headers=KEY)
    assert {result["status"] for result in first.json()["results"]} == {"duplicate"}
    changed = json.loads(json.dumps(bars))
    changed["bars"][0]["close"] *= 1.0001
    assert endpoint.client.post("/v1/market/bars", json=changed, headers=KEY).status_code == 409
    repeated = endpoint.client.post("/v1/market/bars", json=bars, headers=KEY)
    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert count(endpoint.ledger, "bars") == recorded
    assert count(endpoint.ledger, "answer") == 1
    assert verify(endpoint.ledger.engine).intact


def test_an_impossible_key_is_refused_and_nothing_is_recorded(
    serve: Any, early: SmallMarket, bars: dict[str, Any]
) -> None:
    endpoint = serve(early)
    for key in ("x" * 201, "tab\there"):
        answer = endpoint.client.post(
            "/v1/market/bars", json=bars, headers={"Idempotency-Key": key}
        )
        assert answer.status_code == 422
    assert count(endpoint.ledger, "bars") == 0


def test_a_refused_post_is_refused_alike_under_its_key(
    serve: Any, early: SmallMarket, bars: dict[str, Any]
) -> None:
    endpoint = serve(early)
    refused = bars | {"interval": "7 parsecs"}
    first = endpoint.client.post("/v1/market/bars", json=refused, headers=KEY)
    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (422, False)
    assert (count(endpoint.ledger, "bars"), count(endpoint.ledger, "answer")) == (0, 1)
    for again in (endpoint, serve(early)):
        repeated = again.client.post("/v1/market/bars", json=refused, headers=KEY)
        assert (repeated.status_code, repeated.content) == (422, first.content)
        assert repeated.headers["Content-Type"] == "application/problem+json"
        assert repeated.headers["Idempotent-Replayed"] == "true"
    assert endpoint.client.post("/v1/market/bars", json=bars, headers=KEY).status_code == 409
    assert count(endpoint.ledger, "answer") == 1
    answer = endpoint.client.post("/v1/market/bars", json=refused)
    assert answer.content == first.content, "without a key the same is said"
    assert verify(endpoint.ledger.engine).intact


def test_a_post_that_failed_is_not_kept_under_its_key(
    serve: Any, early: SmallMarket, bars: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve(early)

    def fails(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("ledger.following.save", fails)
        assert endpoint.client.post("/v1/market/bars", json=bars, headers=KEY).status_code == 503
    assert (count(endpoint.ledger, "bars"), count(endpoint.ledger, "answer")) == (0, 0)
    answer = endpoint.client.post("/v1/market/bars", json=bars, headers=KEY)
    assert answer.status_code == 200
    assert {result["status"] for result in answer.json()["results"]} == {"applied"}


def test_keys_belong_to_their_owner_and_records_name_who_posted(
    serve: Any, early: SmallMarket, bars: dict[str, Any], quotes: dict[str, Any]
) -> None:
    endpoint = serve(early, auth="keys")
    senders = [endpoint.key("market"), endpoint.key("market")]
    for sender in senders:
        answer = endpoint.client.post("/v1/market/bars", json=bars, headers=KEY | sender)
        assert answer.status_code == 200
        assert "Idempotent-Replayed" not in answer.headers
    (record,) = endpoint.ledger.records("bars")
    owner = senders[0]["Authorization"].removeprefix("Bearer ")
    assert record.payload["requester"]
    assert record.payload["requester"] in owner
    assert endpoint.client.post("/v1/market/quotes", json=quotes, headers=senders[1]).is_success
    (record,) = endpoint.ledger.records("quotes")
    assert record.payload["requester"] in senders[1]["Authorization"]


def test_duplicates_at_two_processes_at_once_are_recorded_once(
    serve: Any, early: SmallMarket, bars: dict[str, Any]
) -> None:
    endpoints = [serve(early), serve(early)]
    start = threading.Barrier(len(endpoints))
    answers: list[Any] = []

    def post(endpoint: Any) -> None:
        start.wait(120)
        answers.append(endpoint.client.post("/v1/market/bars", json=bars, headers=KEY))

    threads = [threading.Thread(target=post, args=(endpoint,)) for endpoint in endpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert sorted(map(str, replayed)) == ["None", "true"]
    assert count(endpoints[0].ledger, "bars") == 1


def test_the_document_names_the_header_of_market_posts(serve: Any) -> None:
    paths = serve().client.get("/docs/openapi.json").json()["paths"]
    for route in ("bars", "quotes"):
        operation = paths[f"/v1/market/{route}"]["post"]
        headers = [p["name"] for p in operation["parameters"] if p["in"] == "header"]
        assert headers == ["Idempotency-Key"]
        assert "409" in operation["responses"]
