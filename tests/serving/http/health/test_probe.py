"""Health: found anew where that is quick, and never waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from serving.http.health import HealthRoutes, Probe, routes
from serving.http.server import STOPPING
from serving.schemas.read_messages import Readiness
from tests.waiting import WAIT_SECONDS

STALE_SECONDS = 2.0


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, WAIT_SECONDS))


def test_every_reading_is_found_anew_and_readers_at_once_share_it() -> None:
    found: list[int] = []

    def find() -> int:
        time.sleep(0.02)
        found.append(0)
        return len(found)

    async def check() -> None:
        probe = Probe("probe", find)
        assert (await probe.read(WAIT_SECONDS)).value == 1
        assert (await probe.read(WAIT_SECONDS)).value == 2
        values = [
            r.value for r in await asyncio.gather(*(probe.read(WAIT_SECONDS) for _ in range(50)))
        ]
        assert values == [3] * 50

    run(check())


class Hanging:
    """Readiness from a ledger that hangs on demand."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.fails = False

    def __call__(self) -> Readiness:
        self.free.wait(WAIT_SECONDS)
        if self.fails:
            raise OSError("gone")
        return Readiness("ready", [])


async def ask(
    health: HealthRoutes, path: str = "/health/ready", *, stops: bool = False
) -> tuple[int, Any]:
    answer = await health.answer({"path": path, "method": "GET", "state": {STOPPING: stops}})
    return answer.status, msgspec.json.decode(answer.body)


def test_a_hung_ledger_makes_readiness_503_in_time_and_never_a_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "READY_SECONDS", 0.05)
    monkeypatch.setattr(routes, "STALE_SECONDS", STALE_SECONDS)

    async def check() -> None:
        readiness = Hanging()
        health = HealthRoutes(readiness)
        readiness.free.clear()
        status, body = await ask(health)
        assert (status, body["status"]) == (503, "unavailable"), "nothing is known yet"
        readiness.free.set()
        while (await ask(health)) != (200, {"status": "ready", "reasons": []}):
            await asyncio.sleep(0.01)
        readiness.free.clear()
        began = time.monotonic()  # nothing is looked for: the next reading begins with it
        status, body = await ask(health)
        assert (status, body["status"]) == (200, "ready")
        assert body["age_seconds"] >= 0.0
        while status == 200:
            status, body = await ask(health)
        assert time.monotonic() - began >= STALE_SECONDS
        assert "hangs" in body["reasons"][0]
        assert await ask(health, "/health/live") == (200, {"status": "live"})
        readiness.free.set()
        while (await ask(health))[0] != 200:
            await asyncio.sleep(0.01)

    run(check())


def test_readiness_that_fails_is_503() -> None:
    async def check() -> None:
        readiness = Hanging()
        readiness.fails = True
        health = HealthRoutes(readiness)
        assert (await ask(health))[0] == 503
        readiness.fails = False
        assert (await ask(health))[0] == 200

    run(check())


def test_an_endpoint_that_stops_is_live_and_not_ready() -> None:
    async def check() -> None:
        health = HealthRoutes(Hanging())
        assert (await ask(health))[0] == 200
        status, body = await ask(health, stops=True)
        assert (status, body["reasons"]) == (503, ["the endpoint stops"])
        assert (await ask(health, "/health/live", stops=True))[0] == 200

    run(check())


def test_a_probe_that_gets_no_thread_tries_again_and_keeps_no_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        readiness = Hanging()
        probe = Probe("probe", readiness)

        def fails(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fails)
            assert (await probe.read(0.05)).value is None
        assert (await probe.read(WAIT_SECONDS)).value == Readiness("ready", [])
        readiness.free.clear()
        done = [await probe.read(0.001) for _ in range(20)]
        assert all(reading.age for reading in done)
        assert probe._waiting == []
        readiness.free.set()

    run(check())
