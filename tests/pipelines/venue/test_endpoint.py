"""How the venue posts: again until it is answered, at once where it is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

import pipelines.venue.endpoint
from benchmarks.http.ports import free_port
from pipelines.venue.endpoint import Endpoint, RefusedError


@contextmanager
def server(statuses: list[int], port: int = 0) -> Iterator[tuple[int, list[Any]]]:
    """A server that answers these statuses, the last one for ever; its port and what it got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, json.loads(body)))
            self._answer()

        def _answer(self) -> None:
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            answer = json.dumps({"status": status}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            got.append(self.path)
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made.server_address[1], got
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.venue.endpoint, "RETRY_SECONDS", (0.01, 0.02))


@pytest.mark.parametrize("status", [200, 409, 422])
def test_an_answer_is_given_back_with_its_status(status: int) -> None:
    with server([status]) as (port, got):
        endpoint = Endpoint("127.0.0.1", port, threading.Event())
        assert endpoint.post("/v1/x", {"a": 1.5}) == (status, {"status": status})
        endpoint.close()
    assert got == [("/v1/x", {"a": 1.5})]


def test_unavailable_is_asked_again() -> None:
    with server([503, 429, 503, 200]) as (port, got):
        endpoint = Endpoint("127.0.0.1", port, threading.Event())
        assert endpoint.post("/v1/x", {}) == (200, {"status": 200})
        endpoint.close()
    assert len(got) == 4


def test_what_is_read_is_asked_for_again_and_may_be_missing() -> None:
    with server([503, 404]) as (port, got):
        endpoint = Endpoint("127.0.0.1", port, threading.Event())
        assert endpoint.get("/v1/x") == (404, {"status": 404})
        endpoint.close()
    assert got == ["/v1/x", "/v1/x"]
    with server([500]) as (port, _):
        endpoint = Endpoint("127.0.0.1", port, threading.Event())
        with pytest.raises(RefusedError, match="GET /v1/x was answered 500"):
            endpoint.get("/v1/x")
        endpoint.close()


def test_a_refusal_is_not_repeated() -> None:
    with server([400]) as (port, got):
        endpoint = Endpoint("127.0.0.1", port, threading.Event())
        with pytest.raises(RefusedError, match="POST /v1/x was answered 400"):
            endpoint.post("/v1/x", {})
        endpoint.close()
    assert len(got) == 1


def test_it_waits_for_an_endpoint_that_is_not_there_yet() -> None:
    port = free_port()
    endpoint = Endpoint("127.0.0.1", port, threading.Event())
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(endpoint.post("/v1/x", {})))
    thread.start()
    time.sleep(0.1)
    assert not answers
    with server([200], port):
        thread.join(30.0)
        endpoint.close()
    assert answers == [(200, {"status": 200})]


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    endpoint = Endpoint("127.0.0.1", free_port(), stop)
    threading.Timer(0.05, stop.set).start()
    assert endpoint.post("/v1/x", {}) is None
