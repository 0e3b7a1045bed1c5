"""Clients that do what no client should: half requests, resets, slow readers, garbage."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections import deque

from benchmarks.reliability.evidence import UNANSWERED

_HEAD = b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
_KEPT_OPEN = 20
_TURN_SECONDS = 0.05
_SLOW_READS = 4


class BadClients:
    """A thread that sends one bad thing after the other and keeps some connections half open.

    Parameters
    ----------
    port:
        Where the service listens.
    seed:
        Of what is sent.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._draw = random.Random(seed)  # noqa: S311 - no secret
        self._stop = threading.Event()
        self._turns = 0
        self._open: deque[socket.socket] = deque()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> BadClients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> int:
        """Stop and close everything; the number of turns."""
        self._stop.set()
        self._thread.join()
        while self._open:
            self._open.popleft().close()
        return self._turns

    def _run(self) -> None:
        turns = (self._half_head, self._half_body, self._reset, self._slow_reader, self._garbage)
        while not self._stop.wait(_TURN_SECONDS):
            with contextlib.suppress(OSError):
                self._draw.choice(turns)()
                self._turns += 1
            while len(self._open) > _KEPT_OPEN:
                self._open.popleft().close()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=5.0)

    def _half_head(self) -> None:
        """A head that never ends, on a connection that stays open."""
        connection = self._connect()
        self._open.append(connection)
        connection.sendall(_HEAD[: self._draw.randrange(1, len(_HEAD))])

    def _half_body(self) -> None:
        """Less of a body than was promised."""
        connection = self._connect()
        self._open.append(connection)
        connection.sendall(_HEAD + b'Content-Length: 5000\r\n\r\n{"accounts": [')

    def _reset(self) -> None:
        """A whole call, and a reset before its answer."""
        account = {"account_id": UNANSWERED, "cash": 1.0, "positions": []}
        body = json.dumps({"accounts": [account]}).encode()
        with self._connect() as connection:
            reset = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            connection.sendall(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(self._draw.uniform(0.0, 0.01))

    def _slow_reader(self) -> None:
        """The document, asked for again and again and read by a few bytes."""
        with self._connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            request = b"GET /docs/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            connection.sendall(request * self._draw.randrange(1, 20))
            for _ in range(_SLOW_READS):
                connection.recv(100)
                time.sleep(0.02)

    def _garbage(self) -> None:
        """Bytes that are no HTTP."""
        with self._connect() as connection:
            connection.sendall(self._draw.randbytes(self._draw.randrange(1, 5_000)))
            connection.settimeout(0.5)
            connection.recv(1_000)
