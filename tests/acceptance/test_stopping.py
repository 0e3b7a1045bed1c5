"""A running endpoint as a process: alive while it decides, and done with what it accepted."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx
import pytest

from ledger.store import Ledger
from ledger.verify import verify

# Classes of conftest.py, which no test can import, are Any here.
Service: TypeAlias = Any

BEGUN = "margincast_queue_seconds_count"
PENDING = 'margincast_score_calls_pending{worker="1"}'
MANY = 8_000
WAIT_SECONDS = 300.0
"""A bound on what hangs."""


def accounts(count: int, prefix: str) -> dict[str, Any]:
    """Levered accounts of one position each."""
    return {
        "accounts": [
            {
                "account_id": f"{prefix}-{n}",
                "cash": 2_000.0 + n % 1_000,
                "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1 + n % 7 / 10}],
            }
            for n in range(count)
        ]
    }


class Posted(threading.Thread):
    """A score call in a thread of its own."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._content = json.dumps(body)
        self.answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=WAIT_SECONDS) as client:
            self.answer = client.post(
                "/v1/score", content=self._content, headers={"Content-Type": "application/json"}
            )

    def finished(self) -> httpx.Response:
        self.join(WAIT_SECONDS)
        assert self.answer is not None
        return self.answer


def metric(service: Service, name: str) -> float:
    """The value of a series."""
    lines = service.get("/metrics", timeout=WAIT_SECONDS).text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])


def wait_for(service: Service, name: str, value: float) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while metric(service, name) < value:
        assert time.monotonic() < deadline, f"{name} never reached {value}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared(standalone: Callable[[], Service]) -> Service:
    """An endpoint for both tests, in whatever order they come."""
    return standalone()


@pytest.fixture
def service(shared: Service) -> Service:
    """It runs, and has scored before, so that its kernels are compiled."""
    if shared.process.poll() is not None:
        shared.restart()
    shared.post("/v1/score", accounts(8, "first"), timeout=WAIT_SECONDS)
    return shared


def test_health_is_answered_while_a_large_call_is_decided(service: Service) -> None:
    begun = metric(service, BEGUN)
    large = Posted(str(service.client.base_url), accounts(MANY, "large"))
    wait_for(service, BEGUN, begun + 1)
    alive = service.get("/health/live", timeout=WAIT_SECONDS)
    ready = service.get("/health/ready", timeout=WAIT_SECONDS)
    assert large.answer is None, "the large call ended first"
    assert alive.status_code == 200
    assert ready.status_code == 200
    answer = large.finished()
    assert answer.status_code == 200
    assert len(answer.json()["decisions"]) == MANY


def test_calls_accepted_before_sigterm_are_answered_and_on_record(service: Service) -> None:
    """Those that still wait behind the call that is being decided, too."""
    url, begun = str(service.client.base_url), metric(service, BEGUN)
    calls = [Posted(url, accounts(MANY, "first"))]
    wait_for(service, BEGUN, begun + 1)
    calls += [Posted(url, accounts(500, f"call-{n}")) for n in range(3)]
    wait_for(service, PENDING, len(calls))
    service.process.send_signal(signal.SIGTERM)
    answers = [call.finished() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * len(calls)
    assert service.process.wait(WAIT_SECONDS) == -signal.SIGTERM
    ids = {each["decision_id"] for answer in answers for each in answer.json()["decisions"]}
    assert len(ids) == MANY + 3 * 500
    with Ledger(f"sqlite:///{service.folder}/var/ledger.db") as ledger:
        assert ids <= {record.id for record in ledger.records("decision")}
        assert verify(ledger.engine).intact
