"""The open loop: latency runs from the intended start, whatever the server does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from benchmarks.http import open_loop
from benchmarks.http.open_loop import content_length, http_request, send_at_rate

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def server(answer: Callable[[int], bytes], idle_seconds: float = 30.0) -> Iterator[tuple[str, int]]:
    """Answers the requests of all connections one after the other, by their number."""
    lock, count = threading.Lock(), iter(range(10_000))

    def serve(connection: socket.socket) -> None:
        connection.settimeout(idle_seconds)
        with connection, suppress(TimeoutError):
            while connection.recv(1 << 16):
                with lock:
                    parts = answer(next(count))
                if not parts:
                    return
                connection.sendall(parts[:10])
                time.sleep(0.001)
                connection.sendall(parts[10:])

    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[:2]
    finally:
        listener.close()


def requests(count: int) -> list[bytes]:
    return [http_request("/v1/score", f'{{"n": {i}}}') for i in range(count)]


def test_every_request_is_answered_and_none_leaves_early() -> None:
    with server(lambda _: OK) as address:
        outcome = send_at_rate(address, requests(50), 200.0, connections=8)
    assert len(outcome.latency_ms) == len(outcome.late_ms) == 50
    assert outcome.late_ms.min() >= 0.0
    assert outcome.seconds >= 49 / 200.0


def test_calls_that_wait_behind_a_slow_one_count_their_wait() -> None:
    """One connection, and the first answer takes as long as ten requests are apart."""

    def answer(number: int) -> bytes:
        if number == 0:
            time.sleep(0.2)
        return OK

    with server(answer) as address:
        outcome = send_at_rate(address, requests(10), 50.0, connections=1)
    assert outcome.latency_ms[0] >= 200.0
    assert outcome.latency_ms[1] >= 170.0, "it should have started 20 ms after the first"
    assert np.median(outcome.latency_ms) >= 80.0, "a closed loop would show a few milliseconds"


def test_a_server_that_closes_idle_connections_ends_no_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two connections at a rate at which one is enough; the server keeps neither for long."""
    monkeypatch.setattr(open_loop, "_FRESH_SECONDS", 0.05)
    with server(lambda _: OK, idle_seconds=0.2) as address:
        outcome = send_at_rate(address, requests(6), 10.0, connections=2)
    assert len(outcome.latency_ms) == 6


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", "expected 200"),
        (b"", "closed a connection"),
    ],
)
def test_answers_that_are_not_200_end_the_run(answer: bytes, message: str) -> None:
    with server(lambda _: answer) as address, pytest.raises(RuntimeError, match=message):
        send_at_rate(address, requests(3), 100.0, connections=2)


def test_the_length_of_an_answer_is_read_in_any_case() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 17") == 17
    with pytest.raises(RuntimeError, match="without Content-Length"):
        content_length(b"HTTP/1.1 200 OK\r\nA: b")


def test_a_request_carries_its_headers_and_its_length_in_bytes() -> None:
    head, _, body = http_request("/x", '"é"', ["Authorization: Bearer k"]).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Content-Length: 4" in head
    assert b"Authorization: Bearer k" in head
    assert body == '"é"'.encode()
