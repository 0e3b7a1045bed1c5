"""An offer of another protocol changes nothing: the request is answered, its body is its body."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from pipelines.jobs.workers import listen
from serving.http.connections.plain_http import PlainHttpProtocol
from tests.waiting import WAIT_SECONDS

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
HIDDEN = b"POST /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with path and body."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    text = scope["path"].encode() + b" " + body
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
def port() -> Iterator[int]:
    """A server on a free port."""
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            echo, http=PlainHttpProtocol, ws="none", lifespan="off", log_level="error"
        )
        server = Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        assert ready.wait(WAIT_SECONDS)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(WAIT_SECONDS)


def exchange(port: int, *segments: bytes) -> list[bytes]:
    """Bodies of the answers to what is sent in these segments; the last one closes."""

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        writer.close()
        return answer

    parts = asyncio.run(talk()).split(b"HTTP/1.1 ")[1:]
    return [part[:3] + b" " + part.partition(b"\r\n\r\n")[2] for part in parts]


def post(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    length = str(len(body)).encode()
    head = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n" + headers
    return head + b"Content-Length: " + length + b"\r\n\r\n" + body


LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 20, -len(HIDDEN) - len(LAST), -len(LAST)])
def test_body_after_an_offer_is_its_body_and_no_request(port: int, cut: int) -> None:
    sent = post(b"/open", HIDDEN, OFFER) + LAST
    segments = (sent[:cut], sent[cut:]) if cut else (sent,)
    assert exchange(port, *segments) == [b"200 /open " + HIDDEN, b"200 /last "]


def test_several_offers_in_one_segment(port: int) -> None:
    sent = post(b"/1", b"a", OFFER) + post(b"/2", b"", OFFER) + post(b"/3", b"c", OFFER) + LAST
    assert exchange(port, sent) == [b"200 /1 a", b"200 /2 ", b"200 /3 c", b"200 /last "]


def test_chunked_body_after_an_offer(port: int) -> None:
    head = b"POST /chunks HTTP/1.1\r\nHost: a\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n"
    sent = head + b"3\r\nabc\r\n0\r\n\r\n" + LAST
    assert exchange(port, sent) == [b"200 /chunks abc", b"200 /last "]


def test_websocket_is_answered_as_a_plain_request(port: int) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"
    sent = b"GET /ws HTTP/1.1\r\nHost: a\r\n" + offer + b"\r\n" + LAST
    assert exchange(port, sent) == [b"200 /ws ", b"200 /last "]


def test_connect_is_refused_and_the_connection_closed(port: int) -> None:
    (answer,) = exchange(port, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + LAST)
    assert answer == b"400 CONNECT is not supported."
