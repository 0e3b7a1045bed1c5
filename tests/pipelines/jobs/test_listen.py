"""The listening socket: what its connections are set to, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from market.core.errors import ConfigError
from pipelines.jobs.workers import listen
from tests.waiting import WAIT_SECONDS, wait_for


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_accepted_connections_send_at_once() -> None:
    delays: list[int] = []

    class Recorded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            accepted = transport.get_extra_info("socket")
            delays.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(_answer, http=Recorded, lifespan="off", log_level="warning")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            answer = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=WAIT_SECONDS)
        finally:
            server.should_exit = True
            thread.join(WAIT_SECONDS)
    assert answer.status_code == 204
    assert delays == [1], "without TCP_NODELAY each answer on a kept connection waits"


def test_taken_port_is_refused_with_its_number() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} cannot be listened on"):
            listen("127.0.0.1", port)
