"""Webhooks go where they were sent, once, within their time, and nowhere else."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from enforcement.delivery import webhook
from enforcement.delivery.addresses import is_public
from enforcement.delivery.sinks import Message
from enforcement.delivery.webhook import WebhookSink
from tests.enforcement.delivery.receiver import SECRET, call_event, make_certificate, receiving

EVENT = call_event("a", 1)
MESSAGE = Message(EVENT["event_id"], "a", json.dumps(EVENT).encode())
LOCAL = ("127.0.0.1", "localhost")


def sink(url: str, allow: tuple[str, ...] = LOCAL, seconds: float = 5.0) -> WebhookSink:
    return WebhookSink("venue", url, SECRET, allow, seconds)


def test_a_message_arrives_signed_and_an_answer_of_2xx_means_that_it_did() -> None:
    with receiving() as hook:
        outcome = sink(f"{hook.url}?a=b").send(MESSAGE)
        assert (outcome.ok, outcome.detail) == (True, "status 204")
        hook.check()
        ((headers, body, _),) = hook.got
        assert body == MESSAGE.body
        assert headers["Host"] == f"127.0.0.1:{hook.port}"


@pytest.mark.parametrize(
    ("status", "final"), [(500, False), (429, False), (408, False), (404, True), (400, True)]
)
def test_a_refusal_says_whether_sending_again_may_help(status: int, final: bool) -> None:
    with receiving(lambda _: status) as hook:
        outcome = sink(hook.url).send(MESSAGE)
    assert (outcome.ok, outcome.final, outcome.detail) == (False, final, f"status {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    with receiving() as other, receiving(lambda _: status, other.url) as hook:
        outcome = sink(hook.url).send(MESSAGE)
        assert not outcome.ok
        assert "redirects are refused" in outcome.detail
        assert other.got == []


def test_a_lost_answer_is_a_failure() -> None:
    with receiving(lambda _: -1) as hook:
        outcome = sink(hook.url).send(MESSAGE)
        assert not outcome.ok
        assert len(hook.got) == 1


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),  # noqa: S104
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1%eth0", "fd00::1", "::"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"),
    ],
)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::808:808"])
def test_a_public_address_is_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
def test_a_private_address_is_refused_however_it_is_written(host: str) -> None:
    with receiving() as hook:
        outcome = sink(f"http://{host}:{hook.port}/", allow=("example.com",)).send(MESSAGE)
        assert not outcome.ok
        assert "private" in outcome.detail
        assert hook.got == []


def test_a_name_that_resolves_elsewhere_the_second_time_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the address that was checked is the one that is connected to."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked: list[Any] = []
    connected: list[Any] = []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address: Any, timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError("nothing there")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    outcome = sink("http://rebinding.example/", allow=()).send(MESSAGE)
    assert not outcome.ok
    assert asked == ["rebinding.example"]
    assert connected == [("93.184.216.34", 80)]


def test_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        places = ("93.184.216.34", "10.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    outcome = sink("https://mixed.example/", allow=()).send(MESSAGE)
    assert not outcome.ok
    assert "private" in outcome.detail


@contextmanager
def dribbling(first: bytes) -> Iterator[int]:
    """A server that takes a request and sends a byte of its answer every 50 ms, for ever."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        stop = threading.Event()

        def serve() -> None:
            channel, _ = listener.accept()
            with channel:
                channel.recv(65_536)
                try:
                    channel.sendall(first)
                    while not stop.wait(0.05):
                        channel.sendall(b"x")
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        stop.set()


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nA: "])
def test_a_slow_receiver_ends_with_its_time(first: bytes) -> None:
    with dribbling(first) as port:
        began = time.monotonic()
        outcome = sink(f"http://127.0.0.1:{port}/", seconds=0.4).send(MESSAGE)
        assert time.monotonic() - began < 5.0
    assert not outcome.ok
    assert "TimeoutError" in outcome.detail


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://127.0.0.1:1/S3CRET path", "S3CRET"),
        ("ftp://127.0.0.1/S3CRET", "S3CRET"),
        ("http://127.0.0.1:99999/S3CRET", "S3CRET"),
        ("http://127.0.0.1:1/x?token=S3CRET", "S3CRET"),
    ],
)
def test_an_address_that_cannot_be_used_is_an_outcome_without_its_secret(
    url: str, secret: str
) -> None:
    outcome = sink(url).send(MESSAGE)
    assert not outcome.ok
    assert secret not in outcome.detail


def test_an_event_id_cannot_bring_a_header_with_it() -> None:
    with receiving() as hook:
        outcome = sink(hook.url).send(Message("a\r\nX-Injected: 1", "a", MESSAGE.body))
        assert not outcome.ok
        assert hook.got == []


def test_the_certificate_and_its_name_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificate(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(HTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # handshakes that the client ends

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    port = server.server_address[1]
    try:
        assert "CERTIFICATE_VERIFY" in sink(f"https://localhost:{port}/").send(MESSAGE).detail
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        monkeypatch.setattr(webhook, "_context", lambda: trusting)
        assert sink(f"https://localhost:{port}/").send(MESSAGE).ok
        assert "mismatch" in sink(f"https://127.0.0.1:{port}/").send(MESSAGE).detail
    finally:
        server.shutdown()
        server.server_close()
