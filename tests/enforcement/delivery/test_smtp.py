"""E-mail: STARTTLS before the login, fixed recipients, and no header from an event."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from enforcement.delivery.sinks import Message
from enforcement.delivery.smtp import Encryption, MailServer, SmtpSink
from tests.enforcement.delivery.receiver import call_event, make_certificate


@dataclass
class Server:
    """A mail server that says what it is told to, and keeps what it heard."""

    port: int = 0
    extensions: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    certificate: Path | None = None
    heard: list[str] = field(default_factory=list)
    encrypted: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)

    def talk(self, channel: socket.socket) -> None:
        reader = channel.makefile("rb")
        channel.sendall(b"220 test\r\n")
        while line := reader.readline():
            text = line.decode().strip()
            verb = text.partition(" ")[0].upper()
            self.heard.append(text)
            if isinstance(channel, ssl.SSLSocket):
                self.encrypted.append(verb)
            if any(text.upper().startswith(start) for start in self.refuse):
                channel.sendall(b"550 refused S3CRET\r\n")
            elif verb == "EHLO":
                lines = ["test", *self.extensions]
                marks = ["-"] * (len(lines) - 1) + [" "]
                answer = "".join(f"250{m}{x}\r\n" for m, x in zip(marks, lines, strict=True))
                channel.sendall(answer.encode())
            elif verb == "STARTTLS":
                channel.sendall(b"220 go\r\n")
                assert self.certificate is not None
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate)
                channel = context.wrap_socket(channel, server_side=True)
                reader = channel.makefile("rb")
            elif verb == "AUTH":
                channel.sendall(b"235 in\r\n")
            elif verb == "DATA":
                channel.sendall(b"354 go\r\n")
                body = b""
                while not body.endswith(b"\r\n.\r\n"):
                    body += reader.readline()
                self.mails.append(body.removesuffix(b".\r\n"))
                channel.sendall(b"250 taken\r\n")
            elif verb == "QUIT":
                channel.sendall(b"221 bye\r\n")
                channel.close()
                return
            else:
                channel.sendall(b"250 ok\r\n")


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    own = Server(**settings)
    listener = socket.create_server(("127.0.0.1", 0))
    own.port = listener.getsockname()[1]

    def accept() -> None:
        while True:
            try:
                channel, _ = listener.accept()
            except OSError:
                return
            with channel:
                try:
                    own.talk(channel)
                except (OSError, ValueError):
                    continue

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield own
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def sink(
    server: Server,
    encryption: Encryption = "none",
    user: str = "",
    allow: tuple[str, ...] = ("localhost",),
) -> SmtpSink:
    where = MailServer("localhost", server.port, encryption, user, "S3CRET")
    return SmtpSink("mail", where, "margin@example.com", ["a@x.com", "b@x.com"], allow, 5.0)


def message(**changes: Any) -> Message:
    event = call_event("a", 1, topic="call", **changes)
    return Message(event["event_id"], event["account_id"], json.dumps(event).encode())


def test_a_mail_reaches_its_recipients_with_the_event_as_text_and_as_json() -> None:
    with serving() as server:
        sent = message(cures=[{"source": "deposit", "amount": 3.0}])
        outcome = sink(server).send(sent)
        assert (outcome.ok, outcome.detail) == (True, "accepted")
        (raw,) = server.mails
    mail = message_from_bytes(raw, policy=default)
    assert mail["To"] == "a@x.com, b@x.com"
    assert mail["Subject"] == "call opened of account a"
    assert mail["Margincast-Event-Id"] == "call-a-1"
    text, attached = mail.iter_parts()
    assert "amount: 12.5" in text.get_content()
    assert "cures[0].source: deposit" in text.get_content()
    assert attached.get_content() == sent.body
    assert [line.upper() for line in server.heard if line.upper().startswith("RCPT")] == [
        "RCPT TO:<A@X.COM>",
        "RCPT TO:<B@X.COM>",
    ]


@pytest.mark.parametrize(
    "account", ["a\r\nBcc: thief@example.com", "a\nX: 1", "é" * 300, "a\u2028Bcc: x", "=?utf-8?q?x"]
)
def test_an_account_id_brings_no_header_with_it(account: str) -> None:
    with serving() as server:
        event = call_event(account, 1, topic="call", event_id="call-1\r\nBcc: thief@example.com")
        sent = Message(event["event_id"], account, json.dumps(event).encode())
        assert sink(server).send(sent).ok
        (raw,) = server.mails
    mail = message_from_bytes(raw, policy=default)
    assert sorted(mail.keys()) == [
        *("Content-Type", "From", "MIME-Version", "Margincast-Event-Id", "Message-ID"),
        *("Subject", "To"),
    ]
    assert len([line for line in server.heard if line.upper().startswith("RCPT")]) == 2


def test_without_starttls_no_login_is_made() -> None:
    with serving(extensions=("AUTH PLAIN",)) as server:
        outcome = sink(server, "starttls", "user").send(message())
        assert not outcome.ok
        assert "STARTTLS" in outcome.detail
        assert [line for line in server.heard if line.startswith("AUTH")] == []


def test_the_login_is_encrypted_and_the_certificate_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "cert.pem").read_text())
    with serving(extensions=("STARTTLS", "AUTH PLAIN"), certificate=both) as server:
        untrusted = sink(server, "starttls", "user").send(message())
        assert not untrusted.ok
        assert "CERTIFICATE_VERIFY" in untrusted.detail
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
        assert sink(server, "starttls", "user").send(message()).ok
        login = base64.b64encode(b"\0user\0S3CRET").decode()
        assert f"AUTH PLAIN {login}" in server.heard
        assert {"AUTH", "MAIL", "DATA"} <= set(server.encrypted)


@pytest.mark.parametrize(
    ("refuse", "detail"),
    [("MAIL", "answer 550"), ("RCPT", "Refused"), ("DATA", "answer 550")],
)
def test_a_refusal_is_an_outcome_without_what_the_server_said(refuse: str, detail: str) -> None:
    with serving(refuse=(refuse,)) as server:
        outcome = sink(server).send(message())
    assert not outcome.ok
    assert detail in outcome.detail
    assert "S3CRET" not in outcome.detail


def test_a_private_address_is_refused_unless_it_is_allowed() -> None:
    with serving() as server:
        outcome = sink(server, allow=()).send(message())
        assert not outcome.ok
        assert "private" in outcome.detail
        assert server.heard == []


def test_a_mail_that_one_recipient_cannot_get_is_not_sent_to_the_others_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(refuse=("RCPT TO:<B",)) as server:
        outcome = sink(server).send(message())
    assert (outcome.ok, outcome.detail) == (True, "1 of 2 recipients refused")
    assert outcome.detail in caplog.text
