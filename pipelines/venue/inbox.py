"""Where the simulated venue receives webhooks: a small server on the loopback address.

It takes what is signed under the agreed secret and is of now, and each event once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import msgspec

from enforcement.delivery.signature import SignatureError, verify_signature

MOST_WAITING = 20_000
"""Beyond so many events that nobody took, further ones are answered 503 and come again."""

MOST_BYTES = 2**20

_REMEMBERED = 200_000
"""Ids of events that are known to be repetitions."""

_LOG = logging.getLogger("margincast.venue")


class Inbox:
    """Receives events while its ``with`` block runs.

    Parameters
    ----------
    port:
        On 127.0.0.1; 0: any that is free.
    secret:
        Under which webhooks are signed.

    Attributes
    ----------
    arrived:
        Set while events wait.
    """

    def __init__(self, port: int, secret: bytes) -> None:
        self._secret = secret
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, Any]] = deque()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.arrived = threading.Event()
        own = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                size = self.headers.get("Content-Length", "")
                status = 413
                if size.isdigit() and int(size) <= MOST_BYTES:
                    status = own.receive(dict(self.headers), self.rfile.read(int(size)))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/margin"

    def __enter__(self) -> Self:
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.1,), name="venue-inbox", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        """Take a request; the status to answer with.

        204: it has it, also a repetition. 401: not signed. 400: no event. 503: too many wait.
        """
        try:
            event_id = verify_signature(self._secret, headers, body, time.time())
        except SignatureError as error:
            _LOG.warning("a webhook is refused: %s", error)
            return 401
        try:
            event = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError:
            return 400
        with self._lock:
            if event_id in self._seen:
                return 204
            if len(self._waiting) >= MOST_WAITING:
                return 503
            self._seen[event_id] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            self._waiting.append({**event, "event_id": event_id})
            self.arrived.set()
        return 204

    def take(self) -> list[dict[str, Any]]:
        """The events that came since the last call, in the order in which they came."""
        with self._lock:
            events = list(self._waiting)
            self._waiting.clear()
            self.arrived.clear()
        return events
