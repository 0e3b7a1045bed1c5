"""`margincast serve` as processes: few descriptors, half-sent requests, SIGTERM under load."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.http.ports import free_port
from ledger.store import Ledger
from tests.serving.http.closed_loop import Clients

MARGINCAST = str(Path(sys.executable).parent / "margincast")
WAIT_SECONDS = 300.0
CONFIG = """
[simulate]
days = 12
symbols = 3
[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"
[ledger]
url = "sqlite:///var/ledger.db"
"""
HALF_HEAD = b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-"
POST = b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HALF_BODY = POST + b"Content-Length: 100\r\n\r\nhalf"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
ACCOUNT = {
    "account_id": "one",
    "cash": 5_000.0,
    "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}],
}


class Served:
    """``margincast serve`` on a free port, with at most so many descriptors."""

    def __init__(self, folder: Path, *options: str, descriptors: int = 0, **variables: str) -> None:
        self.port = free_port()
        self.errors = folder / "serve.err"

        def limit() -> None:
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        kept = {n: v for n, v in os.environ.items() if not n.startswith("MARGINCAST")}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [MARGINCAST, "serve", "--port", str(self.port), *options],
                cwd=folder,
                env=kept | variables,
                stderr=errors,
                preexec_fn=limit,
            )
        deadline = time.monotonic() + WAIT_SECONDS
        while "listen" not in self.errors.read_text():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)

    def connect(self, sent: bytes = b"") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)
        client.sendall(sent)
        return client

    def status(self, sent: bytes) -> int:
        """Status of the answer; 0 where the connection was ended without one."""
        try:
            with closing(self.connect(sent)) as client:
                answer = client.recv(65_536)
        except ConnectionError:
            return 0
        return int(answer[9:12] or b"0")


@pytest.fixture
def start(tmp_path: Path, made_bundles: tuple[Path, str]) -> Iterator[Callable[..., Served]]:
    (tmp_path / "margincast.toml").write_text(CONFIG)
    shutil.copytree(made_bundles[0], tmp_path / "var" / "bundles")
    with ExitStack() as stack:

        def start(*options: str, **limits: Any) -> Served:
            served = Served(tmp_path, *options, **limits)
            stack.callback(served.process.wait)
            stack.callback(served.process.kill)
            return served

        yield start


def score() -> bytes:
    body = json.dumps({"accounts": [ACCOUNT]}).encode()
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_eighty_connections_with_64_descriptors_do_not_stop_the_service(
    start: Callable[..., Served],
) -> None:
    served = start(descriptors=64, MARGINCAST__SERVING__HEAD_SECONDS="10")
    assert served.status(score()) == 200
    began = time.monotonic()
    with ExitStack() as stack:
        for _ in range(80):
            try:
                stack.enter_context(closing(served.connect(HALF_HEAD)))
            except ConnectionError:
                continue  # it was closed at once
        while served.status(LIVE) != 200:
            assert time.monotonic() - began < 10.0, "health gets through before the heads are late"
            time.sleep(0.1)
        while served.status(score()) != 200:
            assert time.monotonic() - began < WAIT_SECONDS, "their time is over after ten seconds"
            time.sleep(0.1)
        assert len(os.listdir(f"/proc/{served.process.pid}/fd")) < 64  # noqa: PTH208
    assert served.process.poll() is None


@pytest.mark.parametrize("workers", [1, 2])
def test_no_reset_among_a_thousand_scores_when_sigterm_comes_and_all_are_on_record(
    start: Callable[..., Served], tmp_path: Path, workers: int
) -> None:
    served = start("--workers", str(workers))
    clients = [Clients(served.port, score(), b"]}", keep=keep, count=4) for keep in (False, True)]
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(each.results["answered"] for each in clients) < 1_000:
        assert served.process.poll() is None
        assert time.monotonic() < deadline, [each.results for each in clients]
        time.sleep(0.01)
    with closing(served.connect(HALF_BODY)) as half:  # holds nothing
        for _ in range(20):  # each worker answers some, and has then read the half before them
            assert served.status(LIVE) == 200
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        results = clients[0].wait() + clients[1].wait()
        assert half.recv(65_536).startswith(b"HTTP/1.1 503 ")
        assert served.process.wait(WAIT_SECONDS) == (-signal.SIGTERM if workers == 1 else 0)
    assert time.monotonic() - began < 60.0
    assert set(results) == {"answered", "refused"}, results
    with Ledger(f"sqlite:///{tmp_path}/var/ledger.db") as ledger:
        page, _ = ledger.decisions_of("one", 100_000, None)
    assert len(page) == results["answered"], "none that was not answered, none that was lost"
