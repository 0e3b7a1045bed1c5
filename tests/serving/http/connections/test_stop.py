"""The stop of a server by SIGTERM: nobody holds it, and nobody who was heard is reset."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.serving.http.closed_loop import Clients
from tests.serving.http.small_endpoint import WHOLE, Endpoint, Gate, read_all, read_answer
from tests.waiting import WAIT_SECONDS, wait_for

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = """
import socket
from serving.http.server import run_server
from tests.serving.http.closed_loop import Clients
from tests.serving.http.small_endpoint import application

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
run_server(application, listener, lambda: print(port, flush=True))
"""
HALF_HEAD = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-"
HALF_BODY = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"


Start = Callable[..., Endpoint]


def test_half_sent_requests_and_idle_connections_do_not_hold_the_stop(start: Start) -> None:
    endpoint = start()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(closing(endpoint.connect(sent)))
            for sent in (b"", HALF_HEAD, HALF_BODY, WHOLE)
        ]
        assert read_answer(clients[3], b"/whole 0").startswith(b"HTTP/1.1 200 ")
        endpoint.until_received()
        began = time.monotonic()
        endpoint.stop()
        answers = [read_all(client) for client in clients]
        endpoint.thread.join(WAIT_SECONDS)
        assert time.monotonic() - began < 8.0, "the head alone may take ten seconds"
    assert [answer[:12] for answer in answers] == [b"", b"HTTP/1.1 503", b"HTTP/1.1 503", b""]


def test_a_body_that_was_answered_before_it_was_complete_gets_no_second_answer(
    start: Start,
) -> None:
    endpoint = start()
    early = HALF_BODY.replace(b"/v1/score", b"/early")
    with closing(endpoint.connect(early)) as client:
        answer = read_answer(client, b"/early 0")
        assert answer.startswith(b"HTTP/1.1 200 ")
        endpoint.stop()
        assert read_all(client) == b""


def test_what_was_received_is_answered_and_is_the_last_answer(start: Start) -> None:
    gate = Gate()
    endpoint = start(lambda: gate)
    with closing(endpoint.connect()) as idle, closing(endpoint.connect(WHOLE)) as client:
        assert gate.entered.wait(WAIT_SECONDS)
        endpoint.stop()
        assert read_all(idle) == b"", "the stop has come to what is not used"
        gate.may.set()
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert answer.endswith(b"/whole 0")


def test_a_request_that_is_not_answered_holds_the_stop_no_longer_than_its_seconds(
    start: Start,
) -> None:
    gate = Gate()
    endpoint = start(lambda: gate, stop_seconds=1.5)
    with closing(endpoint.connect(WHOLE)) as client:
        assert gate.entered.wait(WAIT_SECONDS)
        began = time.monotonic()
        endpoint.stop()
        assert all_or_reset(client) == b""
        endpoint.thread.join(WAIT_SECONDS)
        assert not endpoint.thread.is_alive()
    assert time.monotonic() - began > 1.0


def all_or_reset(client: socket.socket) -> bytes:
    try:
        return read_all(client)
    except ConnectionResetError:
        return b""


def test_while_it_drains_it_answers_and_says_that_each_answer_is_the_last(start: Start) -> None:
    endpoint = start(drain_seconds=5.0)
    began = time.monotonic()
    endpoint.stop()

    def is_last() -> bool:
        with closing(endpoint.connect(WHOLE)) as client:
            answer = read_answer(client, b"/whole 0")
        assert answer.startswith(b"HTTP/1.1 200 ")
        return b"connection: close" in answer

    wait_for(is_last)
    endpoint.thread.join(WAIT_SECONDS)
    assert time.monotonic() - began > 4.5


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A server as a process of its own; it prints its port."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("keep", [False, True], ids=["a connection each", "kept alive"])
def test_no_reset_among_a_thousand_requests_when_sigterm_comes(
    process: subprocess.Popen[bytes], keep: bool
) -> None:
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with closing(socket.create_connection(("127.0.0.1", port))) as half:
        half.sendall(HALF_BODY)
        clients = Clients(port, WHOLE, b"/whole 0", keep=keep, count=8)
        wait_for(lambda: clients.results["answered"] >= 1_000)
        process.send_signal(signal.SIGTERM)
        results = clients.wait()
        assert process.wait(WAIT_SECONDS) == -signal.SIGTERM
    assert set(results) == {"answered", "refused"}, results
    assert results["refused"] == 8, "each client went on until the server was gone"


HUNG = """
import asyncio, socket, time
from serving.http import server
from serving.http.connections import ConnectionLimits
from serving.http.server import Transport, run_server
from tests.serving.http.small_endpoint import application

async def hangs(scope, receive, send):
    if scope["type"] == "http":
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 120.0)
    await application(scope, receive, send)

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
transport = Transport(limits=ConnectionLimits(stop_seconds=0.5))
server.CLOSE_SECONDS = 0.5
run_server(hangs, listener, lambda: print(port, flush=True), transport)
"""


def test_a_thread_that_a_database_holds_does_not_hold_the_stop() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HUNG],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with closing(socket.create_connection(("127.0.0.1", port))) as client:
                client.sendall(WHOLE)
                assert read_answer(client, b"/whole 0").startswith(b"HTTP/1.1 200 ")
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=WAIT_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 1
    assert b"did not end in time" in log
