"""The start of an endpoint: what is answered meanwhile, and what becomes of a start that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from market.core.errors import DataError
from serving.http import starting as module
from serving.http.starting import STARTING, StartingApplication
from serving.telemetry.logs.access_log import AccessLog
from serving.telemetry.logs.lines import LineWriter
from serving.telemetry.logs.records import LogSettings
from serving.telemetry.telemetry import Telemetry
from tests.waiting import WAIT_SECONDS


class Server:
    """Runs an application's lifespan and sends it requests, as a server does."""

    def __init__(self, application: StartingApplication) -> None:
        self._application = application
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self.said: list[str] = []

    async def __aenter__(self) -> Server:
        self._lifespan = asyncio.ensure_future(
            self._application({"type": "lifespan", "state": {}}, self._events.get, self._note)
        )
        await self._events.put({"type": "lifespan.startup"})
        await self._until(lambda: bool(self.said))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._events.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(self._lifespan, WAIT_SECONDS)

    async def _note(self, message: Any) -> None:
        self.said.append(message["type"])

    async def get(self, path: str) -> tuple[int, Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "path": path, "method": "GET", "headers": []}
        await self._application(scope, receive, send)
        return sent[0]["status"], msgspec.json.decode(sent[1]["body"])

    async def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(12_000):
            if done():
                return
            await asyncio.sleep(0.005)
        pytest.fail("it did not happen")

    async def until_started(self) -> None:
        for _ in range(12_000):
            if (await self.get("/health/ready"))[0] == 200:
                return
            await asyncio.sleep(0.005)
        pytest.fail("it did not start")


class Application:
    """Answers its name; notes its lifespan."""

    def __init__(self, *, fails: bool = False) -> None:
        self.events: list[str] = []
        self._fails = fails

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'"application"'})
            return
        for _ in range(2):
            event = (await receive())["type"]
            self.events.append(event)
            if self._fails:
                await send({"type": f"{event}.failed", "message": "no disk"})
                return
            await send({"type": f"{event}.complete"})


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, WAIT_SECONDS))


def test_it_is_live_and_not_ready_until_it_is_built() -> None:
    go_on, inner = threading.Event(), Application()

    def build() -> Application:
        go_on.wait(WAIT_SECONDS)
        return inner

    async def check() -> None:
        async with Server(StartingApplication(build, lambda: None)) as server:
            assert server.said == ["lifespan.startup.complete"]
            assert await server.get("/health/live") == (200, {"status": "live"})
            not_ready = {"status": "unavailable", "reasons": [STARTING]}
            assert await server.get("/health/ready") == (503, not_ready)
            assert inner.events == []
            held = asyncio.ensure_future(server.get("/v1/score"))
            await asyncio.sleep(0.02)
            assert not held.done(), "a request that comes early waits"
            go_on.set()
            assert await held == (200, "application")
            assert await server.get("/health/ready") == (200, "application")
            assert inner.events == ["lifespan.startup"]
        assert inner.events == ["lifespan.startup", "lifespan.shutdown"]
        assert server.said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    run(check())


def test_a_request_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.02)
    go_on = threading.Event()

    def build() -> Application:
        go_on.wait(WAIT_SECONDS)
        return Application()

    async def check() -> None:
        async with Server(StartingApplication(build, lambda: None)) as server:
            status, problem = await server.get("/v1/model")
            assert status == 503
            assert problem["type"].endswith(":starting")
            go_on.set()
            await server.until_started()

    run(check())


def test_what_is_answered_during_the_start_is_one_line_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.02)
    go_on, parts = threading.Event(), list[bytes]()
    writer = LineWriter(parts.append)
    settings = LogSettings("json", "info", None)
    telemetry = Telemetry(writer=writer, access_log=AccessLog(writer, settings))

    def build() -> Application:
        go_on.wait(WAIT_SECONDS)
        return Application()

    async def check() -> None:
        async with Server(StartingApplication(build, lambda: None, telemetry)) as server:
            for path in ("/health/live", "/health/ready", "/v1/accounts/secret/decisions"):
                await server.get(path)
            go_on.set()
            await server.until_started()

    run(check())
    writer.close()
    lines = [msgspec.json.decode(line) for line in b"".join(parts).splitlines()]
    starts = [line for line in lines if line["route"] != "/health/ready" or line["status"] == 503]
    assert [(line["route"], line["status"]) for line in starts[:3]] == [
        ("/health/live", 200),
        ("/health/ready", 503),
        ("unmatched", 503),
    ]
    assert telemetry.connections.refused == {"starting": 1}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: (_ for _ in ()).throw(DataError("no bars")), "no bars"),
        (lambda: Application(fails=True), "no disk"),
    ],
)
def test_a_start_that_fails_stops_the_server_and_keeps_its_error(
    build: Callable[[], Any], message: str
) -> None:
    async def check() -> None:
        application, stopped = StartingApplication(build, lambda: None), asyncio.Event()
        application.stop = stopped.set
        async with Server(application) as server:
            await asyncio.wait_for(stopped.wait(), WAIT_SECONDS)
            assert (await server.get("/v1/model"))[0] == 503
        assert message in str(application.error)

    run(check())


def test_a_stop_during_the_start_does_not_wait_for_it() -> None:
    go_on = threading.Event()

    def build() -> Application:
        go_on.wait(WAIT_SECONDS)
        return Application()

    async def check() -> None:
        async with Server(StartingApplication(build, lambda: None)) as server:
            pass
        assert server.said[-1] == "lifespan.shutdown.complete"

    try:
        run(check())
    finally:
        go_on.set()
