"""``POST /v1/score`` as raw ASGI: what is read before what, and one answer by every way to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from ledger.keys import Keys
from serving.score_queue import QueueRefusedError, ScoreQueue
from serving.service import Service
from tests.waiting import WAIT_SECONDS

HOST = (b"host", b"127.0.0.1:8000")


class Exchange:
    """One request to an ASGI application: what was read of it, and the answer."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)
        self.received = 0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def _receive(self) -> dict[str, Any]:
        if not self._parts:
            return {"type": "http.disconnect"}
        self.received += 1
        part = self._parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": True}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]

    def of(self, app: Any, *headers: tuple[bytes, bytes], path: str = "/v1/score") -> Exchange:
        """This after the request; the client leaves where more is read than it sends."""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [*headers, (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        asyncio.run(asyncio.wait_for(app(scope, self._receive, self._send), 20.0))
        return self


def test_a_body_is_refused_as_soon_as_it_is_too_long(serve: Any) -> None:
    app = serve(max_body_bytes=100).client.app
    announced = Exchange(b"x").of(app, HOST, (b"content-length", b"101"))
    assert (announced.status, announced.received) == (413, 0)
    sent = Exchange(*[b"x" * 40] * 5).of(app, HOST)
    assert (sent.status, sent.received) == (413, 3)
    assert sent.body == announced.body
    lying = Exchange(*[b"x" * 40] * 5).of(app, HOST, (b"content-length", b"1"))
    assert (lying.status, lying.received) == (413, 3)


def test_nothing_is_read_of_a_request_without_a_valid_key(serve: Any) -> None:
    endpoint = serve(auth="keys")
    app = endpoint.client.app
    for headers in ((), ((b"authorization", b"Bearer mck_a_b"),)):
        refused = Exchange(b"{}").of(app, HOST, *headers)
        assert (refused.status, refused.received) == (401, 0)
        assert refused.headers[b"www-authenticate"].startswith(b"Bearer")
    other = endpoint.key("read")["Authorization"].encode()
    refused = Exchange(b"{}").of(app, HOST, (b"authorization", other))
    assert (refused.status, refused.received) == (403, 0)


def test_a_key_scores_until_the_moment_it_is_revoked(serve: Any, account: dict[str, Any]) -> None:
    endpoint = serve(auth="keys")
    key_id, secret = Keys(endpoint.ledger).add_key(["score"])
    headers = {"authorization": f"bearer {secret}"}
    body = {"accounts": [account]}
    for _ in range(3):
        assert endpoint.client.post("/v1/score", json=body, headers=headers).status_code == 200
    Keys(endpoint.ledger).revoke(key_id)
    assert endpoint.client.post("/v1/score", json=body, headers=headers).status_code == 401


def test_a_look_up_that_waits_for_a_server_does_not_hold_up_the_event_loop(
    serve: Any, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may = threading.Event(), threading.Event()
    authenticate = Keys.authenticate

    def slow(keys: Keys, secret: str) -> Any:
        asked.set()
        assert may.wait(WAIT_SECONDS)
        return authenticate(keys, secret)

    with monkeypatch.context() as patch:
        patch.setattr(Keys, "is_local", False)
        endpoint = serve(auth="keys")
    monkeypatch.setattr(Keys, "authenticate", slow)
    headers = endpoint.key("score")
    answers: list[int] = []

    def post() -> None:
        body = {"accounts": [account]}
        answers.append(endpoint.client.post("/v1/score", json=body, headers=headers).status_code)

    thread = threading.Thread(target=post)
    thread.start()
    assert asked.wait(WAIT_SECONDS)
    assert endpoint.client.get("/health/live").status_code == 200
    assert answers == []
    may.set()
    thread.join(WAIT_SECONDS)
    assert answers == [200]


def test_a_client_that_leaves_before_its_body_is_complete_gets_nothing(serve: Any) -> None:
    endpoint = serve()
    left = Exchange(b'{"acc').of(endpoint.client.app, HOST)
    assert (left.status, left.body) == (0, b"")
    assert endpoint.score({"account_id": "a", "cash": 1.0, "positions": []}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/score/", "/v1//score"])
def test_requests_through_the_frameworks_routing_are_answered_alike(
    serve: Any, account: dict[str, Any], path: str
) -> None:
    endpoint = serve(max_body_bytes=5_000)
    bodies = [
        json.dumps({"accounts": [account]}).encode(),
        json.dumps({"accounts": []}).encode(),
        b"",
        b"[",
        b"x" * 6_000,
    ]
    for body in bodies:
        plain, routed = (
            endpoint.client.post(
                each,
                content=body,
                headers={"content-type": "application/json", "idempotency-key": body[:9].hex()},
            )
            for each in ("/v1/score", path)
        )
        assert routed.status_code == plain.status_code
        assert routed.content == plain.content
        assert routed.headers["content-type"] == plain.headers["content-type"]
    text = endpoint.client.get("/metrics").text.splitlines()
    series = 'margincast_requests_total{method="POST",route="/v1/score",status='
    assert f'{series}"200"}} 2.0' in text
    assert f'{series}"413"}} 2.0' in text
    assert f'{series}"422"}} 6.0' in text


def test_calls_that_wait_are_decided_together_and_counted(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may = threading.Event(), threading.Event()
    score_many = Service.score_many
    batches: list[int] = []

    def slow(service: Service, calls: Sequence[Any]) -> Any:
        batches.append(len(calls))
        entered.set()
        assert may.wait(WAIT_SECONDS)
        return score_many(service, calls)

    submitted: list[None] = []
    submit = ScoreQueue.submit

    def counted(queue: ScoreQueue, *arguments: Any) -> Any:
        result = submit(queue, *arguments)
        submitted.append(None)
        if len(submitted) == 5:
            may.set()
        return result

    monkeypatch.setattr(Service, "score_many", slow)
    monkeypatch.setattr(ScoreQueue, "submit", counted)
    endpoint = serve()
    answers: list[int] = []

    def post(name: str) -> None:
        answers.append(endpoint.score(account | {"account_id": name}).status_code)

    threads = [threading.Thread(target=post, args=(f"a{n}",)) for n in range(5)]
    threads[0].start()
    assert entered.wait(WAIT_SECONDS)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert answers == [200] * 5
    assert batches == [1, 4]
    text = endpoint.client.get("/metrics").text.splitlines()
    assert "margincast_batch_calls_count 2.0" in text
    assert "margincast_batch_calls_sum 5.0" in text
    assert 'margincast_batch_calls_bucket{le="1.0"} 1.0' in text
    assert "margincast_queue_seconds_count 5.0" in text


def test_a_full_queue_is_a_503_that_says_when_to_come_again(
    serve: Any, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve()

    def full(*_: Any) -> None:
        raise QueueRefusedError("too many wait")

    with monkeypatch.context() as patch:
        patch.setattr(ScoreQueue, "submit", full)
        refused = endpoint.score(account)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == {
        "type": "urn:margincast:problem:overloaded",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "too many wait",
    }
    assert endpoint.score(account).status_code == 200


def test_the_document_keeps_the_operation(serve: Any) -> None:
    operation = serve().client.get("/docs/openapi.json").json()["paths"]["/v1/score"]["post"]
    assert operation["operationId"] == "score"
    assert operation["description"].splitlines() == [
        "Decide on accounts; every decision is on record when the answer leaves.",
        "",
        "Needs a key with the scope `score`.",
    ]
    assert operation["requestBody"]["required"] is True
    assert set(operation["responses"]) == {
        *("200", "401", "403", "409", "413", "415", "422", "429", "503")
    }
