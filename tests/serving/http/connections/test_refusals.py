"""What the server refuses itself: each cause is counted by its name, each answer is one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, get_args

import pytest

from serving.http.connections import ConnectionLimits, open_connections
from serving.http.connections.connection import MOST_PIPELINED
from serving.http.connections.limits import MAX_HEAD_BYTES, MAX_HEADERS
from serving.http.connections.open_connections import HEALTH_RESERVE
from serving.telemetry.connection_counts import ConnectionRefusal
from serving.telemetry.logs.access_log import AccessLog
from serving.telemetry.logs.lines import LineWriter
from serving.telemetry.logs.records import LogSettings
from serving.telemetry.metrics.metrics import Metrics, Refusal
from serving.telemetry.observer import RequestObserver
from serving.telemetry.telemetry import Telemetry
from tests.serving.http.small_endpoint import Endpoint, application, read_all
from tests.waiting import wait_for

HEAD = b"POST /posted HTTP/1.1\r\nHost: a\r\nX-Request-Id: ours\r\n"
HALF_BODY = HEAD + b"Content-Length: 9\r\n\r\n123"
ENDLESS_TRAILER = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 600_000
WHOLE = b"GET /whole HTTP/1.1\r\nHost: a\r\nX-Request-Id: ours\r\n\r\n"


class Refusing:
    """A server with its log and its metrics."""

    def __init__(self, **limits: Any) -> None:
        self._parts: list[bytes] = []
        self._writer = LineWriter(self._parts.append)
        log = AccessLog(self._writer, LogSettings("json", "info", 1))
        telemetry = Telemetry(writer=self._writer, access_log=log)
        self.metrics = Metrics(None)
        self.metrics.watch_connections(telemetry.connections)
        observer = RequestObserver(self.metrics, log, None)

        async def observed(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await observer.observe(scope, receive, send, application)
            else:
                await application(scope, receive, send)

        self.endpoint = Endpoint(ConnectionLimits(**limits), lambda: observed, telemetry)

    def end(self) -> None:
        self.endpoint.end()
        self._writer.close()

    def refused(self) -> dict[str, float]:
        """Refusals by their reason, those that happened."""
        shown = self.metrics.exposition().decode().splitlines()
        begin = 'margincast_refused_total{reason="'
        counted = [line.removeprefix(begin).split('"} ') for line in shown if begin in line]
        return {reason: float(count) for reason, count in counted if float(count)}

    def lines(self) -> list[dict[str, Any]]:
        self._writer.flush()
        return [json.loads(line) for line in b"".join(self._parts).splitlines()]


@pytest.fixture
def refusing() -> Iterator[Callable[..., Refusing]]:
    with ExitStack() as stack:

        def start(**limits: Any) -> Refusing:
            server = Refusing(**limits)
            stack.callback(server.end)
            return server

        yield start


@pytest.mark.parametrize(
    ("sent", "reason", "status", "method"),
    [
        (b"GET /half HTTP/1.1\r\nX-Request-Id: ours\r\nHo", "head-late", 408, "-"),
        (HALF_BODY, "body-late", 408, "POST"),
        (WHOLE[:-2] + b"A: b\r\n" * MAX_HEADERS + b"\r\n", "head-too-long", 431, "GET"),
        (WHOLE[:-2] + b"A: " + b"x" * (MAX_HEAD_BYTES + 70_000), "head-too-long", 431, "-"),
        (ENDLESS_TRAILER, "framing-too-long", 431, "POST"),
        (b"no HTTP\r\n\r\n", "not-http", 400, "-"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nno chunk", "not-http", 400, "POST"),
    ],
)
def test_a_cause_has_its_reason_and_its_answer_one_line(
    refusing: Callable[..., Refusing], sent: bytes, reason: str, status: int, method: str
) -> None:
    server = refusing(head_seconds=1.0, body_seconds=1.0)
    answer = server.endpoint.exchange(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    server.end()
    assert server.refused() == {reason: 1.0}
    (line,) = server.lines()
    assert (line["status"], line["method"], line["route"]) == (status, method, "unmatched")
    assert f"x-request-id: {line['request_id']}".encode() in answer
    if b"ours" in sent:
        assert line["request_id"] == "ours"
    if reason in ("head-late", "body-late"):
        assert line["milliseconds"] > 300.0


def test_pending_bytes_have_a_reason_and_a_line(refusing: Callable[..., Refusing]) -> None:
    server = refusing(max_pending_bytes=1_000)
    long = HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 900

    def statuses() -> list[int | None]:
        return [line["status"] for line in server.lines() if line["method"] == "POST"]

    with closing(server.endpoint.connect(long)):
        server.endpoint.until_received()
        assert server.endpoint.exchange(long).startswith(b"HTTP/1.1 503 ")
        assert server.refused() == {"pending-bytes": 1.0}
    wait_for(lambda: len(statuses()) > 1)
    assert statuses() == [503, None], "the other one left"


def test_connections_beyond_the_limit_have_a_reason_and_lines(
    refusing: Callable[..., Refusing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_connections, "SPARE_SECONDS", 60.0)
    server = refusing(max_connections=5, head_seconds=60.0)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(closing(server.endpoint.connect(b"GET")))
        server.endpoint.until_open(5)
        assert server.endpoint.exchange(WHOLE).startswith(b"HTTP/1.1 503 ")
        for _ in range(HEALTH_RESERVE):
            stack.enter_context(closing(server.endpoint.connect(b"GET")))
        server.endpoint.until_open(5 + HEALTH_RESERVE)
        assert server.endpoint.exchange(b"").startswith(b"HTTP/1.1 503 ")
        assert server.refused() == {"connections-limit": 2.0}
        first, second = server.lines()
    assert (first["status"], first["method"], first["request_id"]) == (503, "GET", "ours")
    assert (second["status"], second["method"]) == (503, "-")


def test_answers_that_are_not_taken_have_a_reason(refusing: Callable[..., Refusing]) -> None:
    server = refusing(write_seconds=0.3)
    with closing(server.endpoint.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")):
        wait_for(server.refused)
        assert server.refused() == {"answer-not-taken": 1.0}


def test_a_request_half_sent_at_the_stop_has_a_reason_and_a_line(
    refusing: Callable[..., Refusing],
) -> None:
    server = refusing()
    with (
        closing(server.endpoint.connect(HALF_BODY)) as body,
        closing(server.endpoint.connect(HALF_BODY[:20])) as head,
    ):
        server.endpoint.until_received()
        server.endpoint.stop()
        assert read_all(body).startswith(b"HTTP/1.1 503 ")
        assert read_all(head).startswith(b"HTTP/1.1 503 ")
    server.end()
    assert server.refused() == {"shutting-down": 2.0}
    lines = [(line["method"], line["status"]) for line in server.lines()]
    assert sorted(line for line in lines if line[0] != "GET") == [("-", 503), ("POST", 503)]


def test_too_many_requests_at_once_on_a_connection_have_a_reason(
    refusing: Callable[..., Refusing],
) -> None:
    server = refusing()
    slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    sent = slow + WHOLE * (MOST_PIPELINED + 1)
    with closing(server.endpoint.connect(sent)) as client, suppress(ConnectionResetError):
        assert read_all(client) == b""
    assert server.refused() == {"pipelined": 1.0}


def test_each_reason_is_shown_before_it_happens_and_documented() -> None:
    shown = Metrics(None).exposition().decode()
    page = (Path(__file__).parents[4] / "docs" / "operations.md").read_text("utf-8")
    _, _, table = page.partition("#### Reasons of refusals")
    for reason in (*get_args(ConnectionRefusal), *get_args(Refusal)):
        assert f'margincast_refused_total{{reason="{reason}"}} 0.0' in shown
        assert f"`{reason}`" in table.partition("### Alerts")[0]
