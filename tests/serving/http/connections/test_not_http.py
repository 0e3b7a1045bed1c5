"""What is no HTTP request is answered 400, counted, and hardly logged."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import closing

import pytest

from serving.http.connections import ConnectionLimits, open_connections
from serving.http.server import Transport, run_server
from serving.http.starting import StartingApplication
from serving.telemetry.metrics.metrics import Metrics
from serving.telemetry.telemetry import Telemetry
from tests.serving.http.small_endpoint import application
from tests.waiting import WAIT_SECONDS, wait_for

GARBAGE = [b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 300]
ROUNDS = 40


def test_garbage_is_counted_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_connections.LOG_SECONDS == 60.0
    monkeypatch.setattr(open_connections, "LOG_SECONDS", 3_600.0)  # the test is shorter than this
    up = threading.Event()
    telemetry = Telemetry()
    metrics = Metrics(None)
    metrics.watch_connections(telemetry.connections)
    with socket.create_server(("127.0.0.1", 0)) as listener, caplog.at_level(logging.INFO):
        port = listener.getsockname()[1]
        served = StartingApplication(lambda: application, up.set)
        limits = Transport(limits=ConnectionLimits())
        thread = threading.Thread(
            target=run_server, args=(served, listener, lambda: None, limits, telemetry)
        )
        thread.start()
        assert up.wait(WAIT_SECONDS)
        for _ in range(ROUNDS):
            for sent in GARBAGE:
                with closing(
                    socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
                ) as client:
                    client.sendall(sent)
                    assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
        wait_for(lambda: any(record.levelno >= logging.WARNING for record in caplog.records))
        time.sleep(0.3)
        served.stop()
        thread.join(WAIT_SECONDS)
    metrics.show_now()
    count = ROUNDS * len(GARBAGE)
    assert telemetry.connections.refused == {"not-http": count}
    shown = metrics.exposition().decode().splitlines()
    assert f'margincast_refused_total{{reason="not-http"}} {count}.0' in shown
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, [record.getMessage() for record in warnings]
    assert warnings[0].getMessage().endswith(" not-http")
