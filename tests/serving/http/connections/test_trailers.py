"""What comes after a chunked body, or between its chunks, is neither taken nor kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from serving.http.connections import ConnectionLimits
from serving.http.connections.limits import MAX_HEAD_BYTES
from tests.serving.http.small_endpoint import Endpoint, read_all

Start = Callable[..., Endpoint]
HEAD = b"POST /whole HTTP/1.1\r\nHost: a\r\nX-Head: 1\r\nTransfer-Encoding: chunked\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def names_of_headers(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the names of the headers, as they are before the body and after it."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})
        return
    before = b",".join(name for name, _ in scope["headers"])
    while (await receive()).get("more_body"):
        pass
    text = before + b" " + b",".join(name for name, _ in scope["headers"])
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    switch = sys.getswitchinterval()
    made = Endpoint(ConnectionLimits(), lambda: names_of_headers)
    yield made
    made.end()
    sys.setswitchinterval(switch)


def test_a_trailer_does_not_pass_for_a_header(endpoint: Endpoint) -> None:
    trailer = b"Authorization: Bearer x\r\nX-Forwarded-For: 192.0.2.1\r\n"
    answer = endpoint.exchange(HEAD + b"\r\n1\r\na\r\n0\r\n" + trailer + b"\r\n" + LAST)
    taken = b"host,x-head,transfer-encoding"
    assert answer.count(taken + b" " + taken) == 1
    assert b"authorization" not in answer
    assert b"host,connection host,connection" in answer  # the next request is read as usual


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"0\r\n", b"X-Trailer: " + b"a" * 1_000 + b"\r\n"),
        (b"0\r\nX-Trailer: ", b"a" * 1_000),
        (b"1;x=", b"a" * 1_000),
    ],
)
def test_trailers_and_extensions_without_end_are_cut_off(
    start: Start, begin: bytes, part: bytes
) -> None:
    endpoint = start()
    with closing(endpoint.connect(HEAD + b"\r\n1\r\na\r\n" + begin)) as client:
        sent = 0
        with suppress(OSError):
            while sent < 512 * MAX_HEAD_BYTES:
                client.sendall(part)
                sent += len(part)
        answer = b""
        with suppress(OSError):
            answer = read_all(client)
    # What is sent after the refusal is dropped for a second, and then the connection ends.
    assert answer.startswith(b"HTTP/1.1 431 ") or sent < 512 * MAX_HEAD_BYTES


def test_many_small_chunks_are_a_body(start: Start) -> None:
    endpoint = start()
    chunks = b"1\r\na\r\n" * 100_000
    answer = endpoint.exchange(HEAD + b"\r\n" + chunks + b"0\r\n\r\n" + LAST)
    assert b"/whole 100000" in answer
    assert b"/last 0" in answer
