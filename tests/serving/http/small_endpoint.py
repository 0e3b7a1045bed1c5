"""A server over real sockets with a small application, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from serving.http.connections import ConnectionLimits
from serving.http.security.tls import Certificate
from serving.http.server import Transport, run_server
from serving.http.starting import StartingApplication
from serving.telemetry.telemetry import Telemetry
from tests.waiting import WAIT_SECONDS, wait_for

LARGE = 32 * 2**20
"""Bytes of the answer to ``/large``: more than socket buffers take."""

WHOLE = b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with path and length of the body: ``/early`` before it, ``/slow`` half a second
    later, ``/slower`` two seconds."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})
        return
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message.get("more_body", False)
    path = scope["path"]
    if path == "/slow":
        await asyncio.sleep(0.5)
    if path == "/slower":
        await asyncio.sleep(2.0)
    text = b"x" * LARGE if path == "/large" else f"{path} {size}".encode()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Gate:
    """The application, with answers that wait until they may go.

    Attributes
    ----------
    entered:
        Set once a request was received as a whole head.
    may:
        To be set for the answers.
    """

    def __init__(self) -> None:
        self.entered, self.may = threading.Event(), threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.entered.set()
            while not self.may.is_set():
                await asyncio.sleep(0.01)
        await application(scope, receive, send)


class Endpoint:
    """A running server: its port, and how it is stopped."""

    def __init__(
        self,
        limits: ConnectionLimits,
        build: Callable[[], Any] = lambda: application,
        telemetry: Telemetry | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        up = threading.Event()
        self.telemetry = telemetry = telemetry or Telemetry()
        self._application = StartingApplication(build, up.set, telemetry)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        served, transport = self._application, Transport(certificate, limits=limits)
        arguments = (served, self._listener, lambda: None, transport, telemetry)
        self.thread = threading.Thread(target=run_server, args=arguments, daemon=True)
        self.thread.start()
        assert up.wait(5 * WAIT_SECONDS)  # kernels that the cache lacks are compiled first

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection on which something was sent."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)
        if sent:
            client.sendall(sent)
        return client

    def exchange(self, sent: bytes) -> bytes:
        """All that is answered until the server closes."""
        with closing(self.connect(sent)) as client:
            return read_all(client)

    def until_open(self, count: int) -> None:
        """Wait until the server has accepted so many connections, as a client cannot see."""
        wait_for(lambda: self.telemetry.connections.open == count, f"{count} are not open")

    def until_received(self) -> None:
        """Wait until the server has read what was sent before on open connections: each answer to
        a new one means that its loop has gone round."""
        for _ in range(3):
            self.exchange(LAST)

    def stop(self) -> None:
        """Stop it, as a signal does."""
        self._application.stop()

    def end(self) -> None:
        """Stop it and wait."""
        self.stop()
        self.thread.join(WAIT_SECONDS)
        self._listener.close()


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side ends; a reset is an error."""
    parts = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def read_answer(client: socket.socket, end: bytes) -> bytes:
    """What comes until this end of an answer, or until the other side ends."""
    answer = b""
    while not answer.endswith(end) and (part := client.recv(65_536)):
        answer += part
    return answer
