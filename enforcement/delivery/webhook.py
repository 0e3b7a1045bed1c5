"""Webhooks: one signed POST a message, to an address that was checked, without redirects.

Each attempt opens a connection of its own, so that an answer never belongs to another attempt. No
proxy is used: the address that is checked must be the one that is connected to.

References: RFC 9112 (HTTP/1.1); RFC 9110, section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from functools import cache
from typing import cast
from urllib.parse import urlsplit

from enforcement.delivery.addresses import Deadline, connect
from enforcement.delivery.signature import signed_headers
from enforcement.delivery.sinks import SHOWN, Message, Outcome
from market.core.redaction import redact

_AGAIN = (408, 425, 429)
"""Answers below 500 after which sending again may help."""


class WebhookSink:
    """Posts messages to one URL.

    Parameters
    ----------
    name:
        Of the sink.
    url:
        ``https://…``; ``http://…`` to a host that is allowed.
    secret:
        Signs each attempt, see `enforcement.delivery.signature`; empty: nothing is signed.
    allow_hosts:
        Hosts that may have a private or loopback address.
    timeout_seconds:
        Of one attempt: connecting, sending, and the head of the answer together.
    """

    def __init__(
        self,
        name: str,
        url: str,
        secret: bytes,
        allow_hosts: Collection[str] = (),
        timeout_seconds: float = 10.0,
    ) -> None:
        self._name, self._url, self._secret = name, url, secret
        self._allow_hosts, self._timeout = frozenset(allow_hosts), timeout_seconds

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._name

    def send(self, message: Message) -> Outcome:
        """Post a message once; an answer of 2xx means that the receiver has it.

        An address that is malformed or refused, and every failure of name, network, TLS or HTTP,
        is an outcome with its reason.
        """
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "margincast",
            **signed_headers(self._secret, message.event_id, message.body, time.time()),
        }
        try:
            status, asked = _post(
                self._url, message.body, headers, self._allow_hosts, Deadline(self._timeout)
            )
        except http.client.InvalidURL as error:
            return _malformed(error)
        except (OSError, http.client.HTTPException) as error:  # a failed TLS check is a ValueError
            detail = redact(f"{type(error).__name__} ({error})", self._url)
            return Outcome(False, detail[:SHOWN])
        except ValueError as error:
            return _malformed(error)
        if 200 <= status < 300:
            return Outcome(True, f"status {status}")
        if 300 <= status < 400:
            return Outcome(False, f"status {status}: redirects are refused", final=True)
        final = status < 500 and status not in _AGAIN
        return Outcome(False, f"status {status}", final, asked)


def _malformed(error: Exception) -> Outcome:
    # Its text may repeat the address, whose path can be a secret.
    return Outcome(False, type(error).__name__, final=True)


def _post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    allow_hosts: Collection[str],
    deadline: Deadline,
) -> tuple[int, float | None]:
    """Status of the answer, and the seconds of its Retry-After."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-~]+", url):
        raise http.client.InvalidURL("not an address of a webhook")
    secure = parts.scheme == "https"
    place = parts.port or (443 if secure else 80)
    request = _head(parts.path or "/", parts.query, parts.netloc.rpartition("@")[2])
    for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
        if not re.fullmatch(r"[ -~]*", value):
            raise ValueError(f"header {name} is not printable ASCII")
        request += f"{name}: {value}\r\n"
    channel = connect(host, place, allow_hosts, deadline)
    try:
        if secure:
            channel.settimeout(deadline.remaining())
            channel = _context().wrap_socket(channel, server_hostname=host)
        channel.settimeout(deadline.remaining())
        channel.sendall(f"{request}\r\n".encode("ascii") + body)
        answer = http.client.HTTPResponse(
            cast(socket.socket, _TimedSocket(channel, deadline)), method="POST"
        )
        answer.begin()
        return answer.status, _seconds(answer.getheader("Retry-After"))
    finally:
        channel.close()


def _head(path: str, query: str, host: str) -> str:
    target = f"{path}?{query}" if query else path
    return f"POST {target} HTTP/1.1\r\nHost: {host}\r\n"


@cache
def _context() -> ssl.SSLContext:
    """Verifies certificate and name; reading the authorities takes some 20 ms."""
    return ssl.create_default_context()


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After in seconds; one with a date is not heeded."""
    return float(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else None


class _TimedSocket:
    """A socket whose reader ends with a deadline, however slowly the bytes come."""

    def __init__(self, channel: socket.socket, deadline: Deadline) -> None:
        self._channel, self._deadline = channel, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """The reader that `http.client.HTTPResponse` asks for."""
        return io.BufferedReader(_TimedReader(self._channel, self._deadline))


class _TimedReader(io.RawIOBase):
    def __init__(self, channel: socket.socket, deadline: Deadline) -> None:
        self._channel, self._deadline = channel, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._channel.settimeout(self._deadline.remaining())
        return self._channel.recv_into(buffer)
