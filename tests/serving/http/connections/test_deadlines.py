"""Clients that are late: with a head, a body, the next request, or with taking an answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress

import pytest

from serving.http.connections.limits import MAX_HEAD_BYTES, MAX_HEADERS
from tests.serving.http.small_endpoint import (
    LARGE,
    LAST,
    WHOLE,
    Endpoint,
    read_all,
    read_answer,
)
from tests.waiting import WAIT_SECONDS, wait_for

Start = Callable[..., Endpoint]
HALF_HEAD = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-"
HALF_BODY = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"


def status(answer: bytes) -> bytes:
    return answer.split(b" ", 2)[1]


def test_forty_half_sent_requests_are_answered_408_and_closed(start: Start) -> None:
    endpoint = start(head_seconds=1.0, body_seconds=1.0)
    with ExitStack() as stack:
        half = [endpoint.connect(HALF_HEAD) for _ in range(20)]
        half += [endpoint.connect(HALF_BODY) for _ in range(20)]
        for client in half:
            stack.enter_context(closing(client))
        answers = [read_all(client) for client in half]
    assert {status(answer) for answer in answers} == {b"408"}
    assert all(b'"urn:margincast:problem:request-timeout"' in answer for answer in answers)
    assert all(b"connection: close" in answer for answer in answers)


@pytest.mark.parametrize("sent", [HALF_HEAD, HALF_BODY])
def test_a_drop_now_and_then_wins_no_time(start: Start, sent: bytes) -> None:
    endpoint = start(head_seconds=0.8, body_seconds=0.8)
    began = time.monotonic()
    with closing(endpoint.connect(sent)) as client:
        client.settimeout(0.1)
        answer = b""
        while not answer:
            assert time.monotonic() - began < WAIT_SECONDS
            with suppress(ConnectionError):  # a client held up for long sends after the answer
                client.sendall(b"x")
            try:
                answer = client.recv(65_536)
            except TimeoutError:
                continue
        assert status(answer) == b"408"
        assert time.monotonic() - began > 0.5


def test_a_connection_on_which_nothing_comes_is_closed(start: Start) -> None:
    endpoint = start(head_seconds=0.3)
    assert endpoint.exchange(b"") == b""


def test_an_idle_connection_is_closed_after_its_time_and_not_before(start: Start) -> None:
    endpoint = start(head_seconds=0.6, idle_seconds=2.5)
    with closing(endpoint.connect(WHOLE)) as client:
        assert status(read_answer(client, b"/whole 0")) == b"200"
        time.sleep(1.0)
        began = time.monotonic()
        client.sendall(WHOLE)
        assert status(read_answer(client, b"/whole 0")) == b"200"
        assert read_all(client) == b""
        assert time.monotonic() - began > 2.0


def test_the_second_request_of_a_connection_has_its_deadline_too(start: Start) -> None:
    endpoint = start(head_seconds=1.0)
    with closing(endpoint.connect(WHOLE + HALF_HEAD)) as client:
        first, second = b"", b""
        answer = read_all(client)
        first, _, second = answer.partition(b"/whole 0")
    assert status(first) == b"200"
    assert status(second) == b"408"


def test_the_server_may_take_longer_than_its_clients(start: Start) -> None:
    endpoint = start(head_seconds=1.0, body_seconds=1.0, idle_seconds=1.0, write_seconds=1.0)
    sent = b"GET /slower HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert endpoint.exchange(sent).endswith(b"/slower 0")


def test_a_client_that_does_not_take_its_answer_is_cut_off(start: Start) -> None:
    endpoint = start(write_seconds=0.5)
    with closing(endpoint.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")) as client:
        refused = endpoint.telemetry.connections.refused
        wait_for(lambda: refused["answer-not-taken"] == 1)
        got = 0
        with suppress(ConnectionResetError):
            while part := client.recv(2**20):
                got += len(part)
        assert got < LARGE


def test_a_slow_client_that_takes_its_answer_in_time_gets_it_all(start: Start) -> None:
    endpoint = start(write_seconds=20.0, idle_seconds=0.2)
    sent = b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with closing(endpoint.connect(sent)) as client:
        time.sleep(1.0)
        assert len(read_all(client)) > LARGE


@pytest.mark.parametrize(
    "headers",
    [
        b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\n",
        b"".join(b"A%d: b\r\n" % i for i in range(MAX_HEADERS)),
    ],
    ids=["long", "many"],
)
def test_a_head_beyond_its_limits_is_answered_431(start: Start, headers: bytes) -> None:
    endpoint = start()
    answer = endpoint.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
    assert status(answer) == b"431"


def test_a_head_without_end_is_answered_431(start: Start) -> None:
    endpoint = start()
    with closing(endpoint.connect(b"GET / HTTP/1.1\r\nA: ")) as client:
        with suppress(ConnectionError):  # a client held up for long sends after the answer
            for _ in range(64):
                client.sendall(b"x" * 1_024)
                time.sleep(0.002)
        assert status(read_all(client)) == b"431"


def test_a_request_line_beyond_the_limit_is_answered_431(start: Start) -> None:
    endpoint = start()
    answer = endpoint.exchange(b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status(answer) == b"431"


def test_what_is_no_http_is_a_problem_after_the_answers_before_it(start: Start) -> None:
    endpoint = start()
    answer = endpoint.exchange(b"no http\r\n\r\n")
    assert status(answer) == b"400"
    assert b"application/problem+json" in answer
    slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = endpoint.exchange(slow + b"no http\r\n\r\n")
    assert status(answer) == b"200"
    assert answer.endswith(b"/slow 0")


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    endpoint = start(head_seconds=1.0, body_seconds=1.0)
    sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(30)) + LAST
    answer = endpoint.exchange(sent)
    assert [part.split(b" ")[0] for part in answer.split(b"\r\n\r\n/")[1:]] == [
        *(b"%d" % i for i in range(30)),
        b"last",
    ]


def test_a_client_that_pipelines_without_end_is_cut_off(start: Start) -> None:
    endpoint = start()
    sent = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000
    with closing(endpoint.connect(sent)) as client:
        began = time.monotonic()
        with suppress(ConnectionResetError):
            read_all(client)
        assert time.monotonic() - began < 60.0, "a thousand answers take 500 seconds"


def test_bodies_that_are_pending_are_bounded_in_total(start: Start) -> None:
    endpoint = start(max_pending_bytes=300_000, body_seconds=60.0)
    head = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 200001\r\n\r\n"
    with closing(endpoint.connect(head + b"x" * 200_000)) as first:
        endpoint.until_received()
        answer = endpoint.exchange(head + b"x" * 200_000)
        assert status(answer) == b"503"
        assert b"retry-after: 1" in answer
        first.sendall(b"x")
        assert status(read_answer(first, b"200001")) == b"200"
    last = head.replace(b"Host", b"Connection: close\r\nHost")
    assert endpoint.exchange(last + b"x" * 200_001).endswith(b"200001"), "it is free again"
    alone = b"POST /v1/score HTTP/1.1\r\nConnection: close\r\nContent-Length: 900000\r\n\r\n"
    assert endpoint.exchange(alone + b"x" * 900_000).endswith(b"900000"), "one body always may"
    for _ in range(5):
        endpoint.connect(head + b"x" * 200_000).close()  # clients that leave hold nothing
    wait_for(lambda: status(endpoint.exchange(last + b"x" * 200_001)) == b"200")


def test_the_client_of_a_refused_body_gets_the_answer_while_it_sends(start: Start) -> None:
    endpoint = start(max_pending_bytes=100_000, body_seconds=60.0)
    size = 4 * 2**20
    head = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    with closing(endpoint.connect(head + b"x" * 90_000)), closing(endpoint.connect(head)) as client:
        endpoint.until_received()
        client.sendall(b"x" * size)
        assert status(read_all(client)) == b"503"


def test_expect_continue_does_not_count_against_the_client(start: Start) -> None:
    endpoint = start()
    head = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n"
    with closing(endpoint.connect(head + b"Expect: 100-continue\r\n\r\n")) as client:
        assert status(client.recv(65_536)) == b"100"
        client.sendall(b"four")
        assert read_all(client).endswith(b"/v1/score 4")


def test_a_client_that_ends_in_the_middle_holds_nothing(start: Start) -> None:
    endpoint = start()
    for sent in (HALF_HEAD, HALF_BODY, WHOLE + HALF_BODY):
        with closing(endpoint.connect(sent)) as client:
            client.shutdown(socket.SHUT_WR)
            read_all(client)
    assert status(endpoint.exchange(LAST)) == b"200"
