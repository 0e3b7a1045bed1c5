"""Clients that connect to a TLS endpoint and do not shake hands."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from serving.http.connections import ConnectionLimits
from serving.http.connections.open_connections import HEALTH_RESERVE
from serving.http.security.tls import Certificate
from tests.serving.http.security.test_transport import trusting, write_pair
from tests.serving.http.small_endpoint import LAST, WHOLE, Endpoint, read_all, read_answer
from tests.waiting import WAIT_SECONDS

Start = Callable[..., "Server"]


class Server(Endpoint):
    """A TLS server in a thread."""

    def __init__(self, folder: Path, limits: ConnectionLimits) -> None:
        cert, key = write_pair(folder, "tls")
        self.trusted = trusting(cert)
        super().__init__(limits, certificate=Certificate(cert, key))

    def secured(self) -> ssl.SSLSocket:
        """A connection after its handshake."""
        return self.trusted.wrap_socket(self.connect(), server_hostname="127.0.0.1")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    switch = sys.getswitchinterval()
    with ExitStack() as stack:

        def start(**limits: float) -> Server:
            server = Server(tmp_path, ConnectionLimits(**limits))  # type: ignore[arg-type]
            stack.callback(server.end)
            return server

        yield start
    sys.setswitchinterval(switch)


def test_silent_clients_take_no_connection_from_others(start: Start) -> None:
    server = start(max_connections=4, head_seconds=120.0)
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(server.connect())) for _ in range(60)]
        for _ in range(3):
            with closing(server.secured()) as client:
                client.sendall(LAST)
                assert b"/last 0" in read_all(client)
        # The oldest were closed; as many as may be open are left to shake hands.
        for oldest in silent[: 60 - 4 - HEALTH_RESERVE]:
            oldest.settimeout(WAIT_SECONDS)
            try:
                assert oldest.recv(1) == b""
            except ConnectionResetError:
                continue
    assert server.telemetry.connections.refused["connections-limit"] >= 60 - 4 - HEALTH_RESERVE


def test_a_handshake_has_the_time_of_a_head(start: Start) -> None:
    server = start(head_seconds=0.5)
    began = time.monotonic()
    with closing(server.connect()) as client:
        assert client.recv(1) == b""
        assert time.monotonic() - began > 0.3


def test_a_silent_client_does_not_hold_the_stop(start: Start) -> None:
    server = start(head_seconds=60.0)
    with closing(server.connect()):
        time.sleep(0.2)
        server.stop()
        server.thread.join(30.0)
        assert not server.thread.is_alive()


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(start: Start) -> None:
    server = start()
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    with closing(server.connect()) as client:
        tls = server.trusted.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
        shaken = False
        while not shaken:
            try:
                tls.do_handshake()
                shaken = True
            except ssl.SSLWantReadError:
                client.sendall(to_server.read())
                to_client.write(client.recv(65_536))
        tls.write(LAST)
        client.sendall(to_server.read())  # the end of the handshake and the request in one piece
        answer = b""
        while b"/last 0" not in answer:
            received = client.recv(65_536)
            assert received
            to_client.write(received)
            with suppress(ssl.SSLWantReadError):
                while part := tls.read(65_536):
                    answer += part


def test_a_connection_is_kept_and_can_be_idle(start: Start) -> None:
    server = start(head_seconds=1.5)
    with closing(server.secured()) as client:
        for pause in (2.0, 0.0):
            client.sendall(WHOLE)
            assert b"200 OK" in read_answer(client, b"/whole 0")
            time.sleep(pause)
