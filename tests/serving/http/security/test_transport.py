"""TLS, proxies and the headers of every answer, over the wire."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from market.core.errors import ConfigError
from pipelines.jobs.workers import listen
from serving.http.security.response_headers import security_headers
from serving.http.security.tls import Certificate
from serving.http.server import Transport, run_server
from serving.http.starting import StartingApplication
from tests.waiting import WAIT_SECONDS, wait_for

EXPECTED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it is told of the client."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    text = json.dumps([scope["client"][0], scope["scheme"]]).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


Run = Callable[..., int]


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts servers on free ports."""
    interval = sys.getswitchinterval()
    with ExitStack() as stack:

        def start(transport: Transport, may_start: threading.Event | None = None) -> int:
            ready = threading.Event()

            def build() -> Any:
                if may_start is not None:
                    assert may_start.wait(WAIT_SECONDS)
                return echo

            app = StartingApplication(build, ready.set)
            listener = stack.enter_context(listen("127.0.0.1", 0))
            listening = threading.Event()
            thread = threading.Thread(
                target=run_server, args=(app, listener, listening.set, transport)
            )
            thread.start()
            stack.callback(thread.join, WAIT_SECONDS)
            stack.callback(lambda: app.stop())
            assert listening.wait(WAIT_SECONDS)
            assert may_start is not None or ready.wait(WAIT_SECONDS)
            return int(listener.getsockname()[1])

        yield start
    sys.setswitchinterval(interval)


def raw(port: int, request: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def test_every_answer_has_the_headers_those_of_the_server_itself_too(run: Run) -> None:
    may_start = threading.Event()
    port = run(Transport(), may_start)
    answers = [
        httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=WAIT_SECONDS),
        httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=WAIT_SECONDS),
    ]
    may_start.set()
    answers.append(httpx.get(f"http://127.0.0.1:{port}/v1/model", timeout=WAIT_SECONDS))
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    for answer in answers:
        assert answer.headers.items() >= EXPECTED.items()
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "strict-transport-security" not in answer.headers
        assert "server" not in answer.headers
    refused = raw(port, b"nonsense\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 400")
    for name, value in EXPECTED.items():
        assert f"{name}: {value}".encode() in refused


def test_the_policy_lets_pages_load_files_of_the_endpoint_and_nothing_inline(serve: Any) -> None:
    page = serve().client.get("/docs").text
    assert "<style" not in page
    assert re.search(r"<script(?! src=\"/static/)", page) is None
    policy = dict(security_headers(tls=False))["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy


def test_only_listed_proxies_are_believed(run: Run) -> None:
    told = {"x-forwarded-for": "6.6.6.6, 203.0.113.9, 10.0.0.7", "x-forwarded-proto": "https"}

    def seen(*proxies: str) -> Any:
        port = run(Transport(proxies=proxies))
        return httpx.get(f"http://127.0.0.1:{port}/", headers=told, timeout=WAIT_SECONDS).json()

    assert seen() == ["127.0.0.1", "http"]
    assert seen("10.0.0.0/8") == ["127.0.0.1", "http"]
    assert seen("127.0.0.1", "10.0.0.0/8") == ["203.0.113.9", "https"]


def write_pair(
    folder: Path, name: str, *, start: int = -1, end: int = 10, password: bytes | None = None
) -> tuple[Path, Path]:
    """A certificate that is valid between two days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=start))
        .not_valid_after(now + dt.timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password)
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    return cert_file, key_file


def trusting(cert: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cert)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def test_tls_answers_and_plain_http_does_not(run: Run, tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, "a")
    port = run(Transport(Certificate(cert, key)))
    answer = httpx.get(f"https://127.0.0.1:{port}/", verify=trusting(cert), timeout=WAIT_SECONDS)
    assert answer.json() == ["127.0.0.1", "https"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/")
    old = trusting(cert)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://127.0.0.1:{port}/", verify=old)


def test_a_renewed_certificate_counts_and_a_broken_one_does_not(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.http.security.tls.LOOK_SECONDS", 0.02)
    cert, key = write_pair(tmp_path, "served")
    certificate = Certificate(cert, key)
    port = run(Transport(certificate))

    def served() -> bytes:
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        with (
            closing(socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)) as connection,
            plain.wrap_socket(connection) as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""

    first = served()
    key.write_text("half written")
    wait_for(lambda: "stays as it was" in caplog.text)
    assert served() == first
    write_pair(tmp_path, "served")
    wait_for(lambda: served() != first)
    assert ssl.DER_cert_to_PEM_cert(served()).split() == cert.read_text().split()
    second = served()
    caplog.clear()
    write_pair(tmp_path, "served", start=-9, end=-1)
    wait_for(lambda: "has expired" in caplog.text)
    assert served() == second


def test_a_certificate_that_cannot_serve_is_refused_before_it_does(tmp_path: Path) -> None:
    good_cert, good_key = write_pair(tmp_path, "good")
    other_key = write_pair(tmp_path, "other")[1]
    old = write_pair(tmp_path, "old", start=-9, end=-1)
    future = write_pair(tmp_path, "future", start=1, end=9)
    hidden = write_pair(tmp_path, "hidden", password=b"secret")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    assert Certificate(good_cert, good_key).context.minimum_version == ssl.TLSVersion.TLSv1_2
    refused = {
        (good_cert, other_key): "is not the key of tls_cert",
        old: "has expired",
        future: "is not valid yet",
        hidden: "is encrypted",
        (junk, good_key): "no certificate and key in PEM",
        (good_cert, junk): "no certificate and key in PEM",
        (tmp_path / "none", good_key): r"tls_cert '.*none' cannot be read \(No such file",
        (good_cert, tmp_path): r"tls_key '.*' cannot be read \(Is a directory",
    }
    for (cert, key), why in refused.items():
        with pytest.raises(ConfigError, match=why):
            Certificate(cert, key)
