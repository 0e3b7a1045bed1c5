"""Clients that send requests over sockets until they are not let in any more."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import closing

from tests.serving.http.small_endpoint import read_answer
from tests.waiting import WAIT_SECONDS


class Clients:
    """Threads that each send one request after the other.

    `request` is sent as it is, and with ``Connection: close`` unless connections are kept; `end`
    is the end of each answer. In `results` is what became of the requests.
    """

    def __init__(self, port: int, request: bytes, end: bytes, *, keep: bool, count: int) -> None:
        self.results: Counter[str] = Counter()
        self._port, self._end = port, end
        self._request = (
            request if keep else request.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1)
        )
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> Counter[str]:
        """The results, once all are refused."""
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        return self.results

    def _note(self, result: str) -> None:
        with self._lock:
            self.results[result] += 1

    def _run(self) -> None:
        while True:
            try:
                client = socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_SECONDS)
            except ConnectionError:
                self._note("refused")
                return
            with closing(client):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        """Requests on one connection, until an answer says that it is the last one."""
        while True:
            try:
                client.sendall(self._request)
                answer = read_answer(client, self._end)
            except ConnectionError as error:
                self._note(type(error).__name__)
                return
            if not answer.startswith(b"HTTP/1.1 200 "):
                self._note("no answer")
                return
            self._note("answered")
            if b"connection: close" in answer:
                return
