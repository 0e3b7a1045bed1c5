"""Open loop: requests at a constant rate, whatever the answers take.

A closed loop that waits for a slow answer sends nothing meanwhile, and so leaves out the calls that
would have waited too. Here each request has the time at which it should start, and its latency runs
from that time, also where all connections are busy and it starts later (Tene, "How NOT to measure
latency": coordinated omission).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from market.core.arrays import Floats

CONNECTIONS = 64
_PATIENCE_SECONDS = 30.0
_FRESH_SECONDS = 1.0
"""A connection that was idle for longer is opened anew: servers close those that are kept idle."""
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes
    ----------
    latency_ms:
        Time from each request's intended start to the end of its answer, in the order of the
        answers.
    late_ms:
        How much later than intended each request left, in the order of the starts.
    seconds:
        From the first intended start to the last answer.
    """

    latency_ms: Floats
    late_ms: Floats
    seconds: float

    def figures(self) -> dict[str, float]:
        """Rate and percentiles."""
        p50, p99 = np.quantile(self.latency_ms, [0.5, 0.99]).tolist()
        return {
            "rps": len(self.latency_ms) / self.seconds,
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": float(self.latency_ms.max()),
            "sent_late_p99_ms": float(np.quantile(self.late_ms, 0.99)),
        }


@dataclass(slots=True, eq=False)
class _Connection:
    """A kept-alive connection; `intended` is the start of the request under way, if any, and
    `used` the end of the newest one."""

    socket: socket.socket
    used: float
    intended: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def send_at_rate(
    address: tuple[str, int], requests: Sequence[bytes], rate: float, connections: int = CONNECTIONS
) -> Outcome:
    """Send each request at its time, one after the other `1 / rate` seconds apart.

    One thread, which sleeps until a request is due or an answer comes.

    Parameters
    ----------
    address:
        Host and port.
    requests:
        Whole HTTP/1.1 requests, see `http_request`.
    rate:
        Requests a second.
    connections:
        At most so many are under way; more wait, and their latency goes on.

    Raises
    ------
    RuntimeError
        A status is not 200, a connection ends, or no answer comes for half a minute.
    """
    idle = [_Connection(_connect(address), time.perf_counter()) for _ in range(connections)]
    busy: list[_Connection] = []
    selector = selectors.DefaultSelector()
    start = time.perf_counter() + 0.01
    due = deque((start + i / rate, request) for i, request in enumerate(requests))
    latency: list[float] = []
    late: list[float] = []
    try:
        while due or busy:
            now = time.perf_counter()
            while due and due[0][0] <= now and idle:
                intended, request = due.popleft()
                connection = idle.pop()
                connection.intended = intended
                if now - connection.used > _FRESH_SECONDS:
                    connection.socket.close()
                    connection.socket = _connect(address)
                connection.socket.sendall(request)
                busy.append(connection)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                now = time.perf_counter()
                late.append(now - intended)
            wait = max(0.0, due[0][0] - now) if due and idle else _PATIENCE_SECONDS
            readable = selector.select(wait)
            if not readable and wait == _PATIENCE_SECONDS:
                raise RuntimeError(f"no answer within {_PATIENCE_SECONDS:g} s")
            for key, _ in readable:
                connection = key.data
                if _receive(connection):
                    connection.used = time.perf_counter()
                    latency.append(connection.used - connection.intended)
                    selector.unregister(connection.socket)
                    busy.remove(connection)
                    idle.append(connection)
        end = time.perf_counter()
    finally:
        selector.close()
        for connection in (*idle, *busy):
            connection.socket.close()
    return Outcome(1e3 * np.array(latency), 1e3 * np.array(late), end - start)


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def http_request(path: str, body: str, headers: Sequence[str] = ()) -> bytes:
    """A POST with a body of JSON."""
    content = body.encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def _receive(connection: _Connection) -> bool:
    """Read what has come; whether the answer is whole."""
    part = connection.socket.recv(_CHUNK)
    if not part:
        raise RuntimeError("the server closed a connection in the middle of a call")
    received = connection.received
    received += part
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = content_length(bytes(received[:end]))
    if len(received) < end + 4 + length:
        return False
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"expected 200, got {bytes(received[:500])!r}")
    received.clear()
    return True


def content_length(head: bytes) -> int:
    """Of the head of an answer.

    Raises
    ------
    RuntimeError
        It names none.
    """
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError(f"an answer without Content-Length: {head!r}")
