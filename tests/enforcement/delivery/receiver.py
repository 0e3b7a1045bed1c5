"""A receiver of webhooks on this machine, and events to send it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from enforcement.delivery.outbox import outbox_rows
from enforcement.delivery.signature import verify_signature
from enforcement.delivery.topics import Subscription
from ledger.schema import outbox
from ledger.store import Ledger

SECRET = b"a secret of enough bytes"

Answer = Callable[[Mapping[str, Any]], int]


@dataclass
class Receiver:
    """What a server got, in the order in which it came.

    Attributes
    ----------
    answer:
        Gives the status for an event; a status below 0 closes the connection without an answer.
    got:
        Headers, body and the event of each request.
    """

    answer: Answer
    url: str = ""
    port: int = 0
    got: list[tuple[dict[str, str], bytes, dict[str, Any]]] = field(default_factory=list)

    def events(self, account: str | None = None) -> list[str]:
        """Ids of the events of an account, or of all, in the order in which they came."""
        return [
            event["event_id"]
            for _, _, event in list(self.got)
            if account is None or event["account_id"] == account
        ]

    def check(self) -> None:
        """Every request was signed over the very body."""
        for headers, body, event in self.got:
            assert verify_signature(SECRET, headers, body, time.time()) == event["event_id"]


@contextmanager
def receiving(answer: Answer = lambda _: 204, location: str = "") -> Iterator[Receiver]:
    """A server on the loopback address."""
    own = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = json.loads(body)
            own.got.append((dict(self.headers), body, event))
            status = own.answer(event)
            if status < 0:
                self.close_connection = True
                return
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    own.port = server.server_address[1]
    own.url = f"http://127.0.0.1:{own.port}/hook"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield own
    finally:
        server.shutdown()
        server.server_close()


def call_event(account: str, sequence: int, **changes: Any) -> dict[str, Any]:
    """An event of a call."""
    return {
        "event_id": f"call-{account}-{sequence}",
        "event": "opened",
        "call_id": f"call-{account}",
        "number": sequence,
        "account_id": account,
        "kind": "call",
        "amount": 12.5,
        "sequence": sequence,
        **changes,
    }


def put(
    ledger: Ledger, events: list[dict[str, Any]], sinks: list[str | Subscription], at: int = 1
) -> None:
    """Insert events as the leader does."""
    with ledger.transaction() as connection:
        rows = outbox_rows(events, sinks, at)
        if rows:
            connection.execute(insert(outbox), rows)


def statuses(ledger: Ledger, sink: str | None = None) -> dict[str, str]:
    """Status of each event, or of each event of a sink."""
    with ledger.engine.connect() as connection:
        return {
            row.event_id: row.status
            for row in connection.execute(select(outbox))
            if sink is None or row.sink == sink
        }


def make_certificate(folder: Path) -> None:
    """Write ``key.pem`` and ``cert.pem`` of localhost, signed by itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
