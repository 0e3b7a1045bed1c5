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

LARGE = 32 * 2**20
"""Bytes of the answer to ``/large``: more than socket buffers take."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with path and length of the body: ``/early`` before it, ``/slow`` half a second
    later."""
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
    if path == "/held":
        await asyncio.sleep(60.0)
    text = b"x" * LARGE if path == "/large" else f"{path} {size}".encode()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


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
        self._application = StartingApplication(build, up.set, telemetry)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        served, transport = self._application, Transport(certificate, limits=limits)
        arguments = (served, self._listener, lambda: None, transport, telemetry)
        self.thread = threading.Thread(target=run_server, args=arguments, daemon=True)
        self.thread.start()
        assert up.wait(120.0)  # kernels that the cache lacks are compiled first

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection on which something was sent."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20.0)
        if sent:
            client.sendall(sent)
        return client

    def exchange(self, sent: bytes) -> bytes:
        """All that is answered until the server closes."""
        with closing(self.connect(sent)) as client:
            return read_all(client)

    def stop(self) -> None:
        """Stop it, as a signal does."""
        self._application.stop()

    def end(self) -> None:
        """Stop it and wait."""
        self.stop()
        self.thread.join(20.0)
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
