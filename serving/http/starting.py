"""What answers while the application starts: liveness at once, readiness when it can decide.

A start reads bars and records, and where the kernel cache is empty it compiles kernels for half a
minute. An orchestrator that hears nothing meanwhile ends the process and begins again. So the
server listens first, and the application is built in a thread beside it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from serving.schemas.read_messages import Alive, Readiness
from serving.telemetry.exchange import HEADER, UNMATCHED, exchange_of
from serving.telemetry.telemetry import Telemetry

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""ASGI, lifespan messages included."""

HOLD_SECONDS = 60.0
"""A request that comes during the start waits so long for its end; then it is answered 503."""

STARTING = "starting: reading market and ledger, and compiling kernels that the cache lacks"

_JSON = b"application/json"
_PROBLEM = msgspec.json.encode(
    {
        "type": "urn:margincast:problem:starting",
        "title": "Service Unavailable",
        "status": 503,
        "detail": f"{STARTING}; wait until /health/ready answers 200",
    }
)
_LOG = logging.getLogger("margincast.serving")


class StartingApplication:
    """An ASGI application that is built in a thread while it answers for its health.

    ``/health/live`` is 200 and ``/health/ready`` is 503 until it is built. Other requests wait for
    it, up to `HOLD_SECONDS`. Then everything goes to what was built, its lifespan included.

    Parameters
    ----------
    build:
        Makes the application, ready to answer.
    started:
        Called once it is built.
    telemetry:
        Where the requests are noted that it answers itself; None: nowhere.
    """

    def __init__(
        self,
        build: Callable[[], Application],
        started: Callable[[], None],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.error: BaseException | None = None
        """Why the start failed."""
        self.stop: Callable[[], None] = lambda: None
        """Stops the server; `serving.http.server.run_server` sets it."""
        self._build, self._on_start = build, started
        self._telemetry = telemetry or Telemetry()
        self._application: Application | None = None
        self._started = asyncio.Event()
        self._inner: _InnerLifespan | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        application = self._application
        if application is not None:
            await application(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._during_start(scope, receive, send)

    async def _during_start(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/health/live":
            await self._answer(scope, send, 200, msgspec.json.encode(Alive("live")))
            return
        if path == "/health/ready":
            body = msgspec.json.encode(Readiness("unavailable", [STARTING]))
            await self._answer(scope, send, 503, body)
            return
        try:
            await asyncio.wait_for(self._started.wait(), HOLD_SECONDS)
        except TimeoutError:
            await self._refuse(scope, send)
            return
        if self._application is None:  # the start failed, and the server stops
            await self._refuse(scope, send)
            return
        await self._application(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        self._telemetry.connections.refused["starting"] += 1
        await self._answer(scope, send, 503, _PROBLEM, b"application/problem+json")

    async def _answer(
        self, scope: Scope, send: Send, status: int, body: bytes, content_type: bytes = _JSON
    ) -> None:
        """Answer a request, and write its line in the log."""
        exchange, log = exchange_of(scope), self._telemetry.access_log
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        headers.append((HEADER, exchange.id.encode()))
        if status == 503:
            headers.append((b"retry-after", b"1"))
        exchange.route = scope["path"] if content_type == _JSON else UNMATCHED
        exchange.answered(status)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        if log is not None:
            log.note(exchange, exchange.method)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        start = asyncio.get_running_loop().create_task(self._start(scope))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        start.cancel()
        if self._inner is not None:
            await self._inner.shut_down()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, scope: Scope) -> None:
        try:
            application = await _in_thread(self._build)
            inner = _InnerLifespan(application, scope)
            await inner.start_up()
        except Exception as error:  # noqa: BLE001 - whoever runs the server raises it
            self.error = error
            self.stop()
        else:
            self._inner, self._application = inner, application
            self._on_start()
        self._started.set()


class _InnerLifespan:
    """The lifespan of the application that was built, as a server would run it."""

    def __init__(self, application: Application, scope: Scope) -> None:
        self._to: asyncio.Queue[Any] = asyncio.Queue()
        self._from: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.ensure_future(application(scope, self._to.get, self._from.put))

    async def start_up(self) -> None:
        """Wait until it says that it has started.

        Raises
        ------
        RuntimeError
            It says that it failed; or what it raised.
        """
        await self._exchange("startup")

    async def shut_down(self) -> None:
        """Wait until it has shut down."""
        try:
            await self._exchange("shutdown")
        except Exception:  # noqa: BLE001 - nothing else can be done about it now
            _LOG.exception("the application failed to shut down")

    async def _exchange(self, event: str) -> None:
        await self._to.put({"type": f"lifespan.{event}"})
        reply = asyncio.ensure_future(self._from.get())
        await asyncio.wait((reply, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            reply.cancel()
            await self._task  # raises what it raised
            raise RuntimeError(f"the application ended before the end of its {event}")
        message = reply.result()
        if not message["type"].endswith(".complete"):
            raise RuntimeError(f"the application failed at {event}: {message.get('message', '')}")


async def _in_thread(job: Callable[[], Application]) -> Application:
    """The result of a job in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Application] = loop.create_future()

    def settle(value: Application | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        elif value is not None:
            result.set_result(value)

    def run() -> None:
        value, failure = None, None
        try:
            value = job()
        except BaseException as error:  # noqa: BLE001 - passed on to whoever waits
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, name="margincast-start", daemon=True).start()
    return await result
