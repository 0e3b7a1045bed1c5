"""Calls an ASGI application in this process, each call within a time limit."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any
from urllib.parse import unquote

from benchmarks.fuzz.generators.requests import Request

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("market", "margin", "ledger", "features", "models", "serving")
_GRACE_SECONDS = 10.0
_WORKERS = ("asyncio", "AnyIO worker", "score", "what-ifs", "explanations", "posts", "look-ups")
"""Names of threads that carry calls begin like this."""
_IDLE = ("serving/score_queue.py", "serving/admission/lane.py")
"""Innermost project files of threads that wait for calls."""
_SHOWN_FRAMES = 6

Asgi = Callable[[Any, Any, Any], Any]


class _TimeLimitError(BaseException):
    """Raised inside a call that takes too long; nothing in between may catch it."""


@dataclass(frozen=True)
class Response:
    """The response to a call.

    Attributes
    ----------
    status:
        0 without a response.
    headers:
        Names in lower case.
    body:
        Bytes.
    seconds:
        Duration of the call.
    hang:
        Outermost project frames of a call at its time limit; empty if it ended in time.
    stuck:
        Whether the call could not be interrupted.
    errors:
        Exceptions that were logged or escaped, by their innermost project frame.
    python_warnings:
        Python warnings, likewise.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    hang: str = ""
    stuck: bool = False
    errors: tuple[str, ...] = ()
    python_warnings: tuple[str, ...] = ()


@dataclass
class _Exchange:
    """One request on its way through the application."""

    body: bytes
    sent: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    async def receive(self) -> dict[str, Any]:
        if self.sent:
            await asyncio.Event().wait()
        self.sent = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))


class Caller:
    """Calls one application; not for use from several threads.

    Parameters
    ----------
    app:
        The ASGI application.
    limit_seconds:
        A call that takes longer is interrupted and reported as a hang.

    Attributes
    ----------
    headers:
        Sent with every request that does not have them itself.
    """

    def __init__(self, app: Asgi, limit_seconds: float) -> None:
        self.headers: dict[str, str] = {}
        self._app = app
        self._limit = limit_seconds
        self._loop = asyncio.new_event_loop()
        self._lifespan_messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._lifespan: asyncio.Future[Any]
        self._log = _LogErrors()
        logging.getLogger("margincast").addHandler(self._log)

    def __enter__(self) -> Caller:
        self._loop.run_until_complete(asyncio.wait_for(self._begin(), _GRACE_SECONDS))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run_until_complete(self._end())
        logging.getLogger("margincast").removeHandler(self._log)
        self._loop.close()

    async def _begin(self) -> None:
        """Start what the application runs beside its requests."""
        started = asyncio.Event()

        async def send(message: dict[str, str]) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lifespan_messages.put_nowait({"type": "lifespan.startup"})
        self._lifespan = asyncio.ensure_future(self._app(scope, self._lifespan_messages.get, send))
        await started.wait()

    async def _end(self) -> None:
        """Let the application end its threads, as far as they can end."""
        self._lifespan_messages.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait({self._lifespan}, timeout=_GRACE_SECONDS)

    def call(self, request: Request) -> Response:
        """Send a request and wait for its response."""
        self._log.messages.clear()
        with warnings.catch_warnings(record=True) as python_warnings:
            warnings.simplefilter("always")
            response = self._loop.run_until_complete(self._call(request))
        shown = tuple(
            f"{w.category.__name__} {_place(w.filename, w.lineno)}" for w in python_warnings
        )
        return Response(
            **{
                **response.__dict__,
                "errors": (*response.errors, *self._log.messages),
                "python_warnings": shown,
            }
        )

    async def _call(self, request: Request) -> Response:
        exchange = _Exchange(request.body())
        start = time.perf_counter()
        task = asyncio.ensure_future(
            self._app(_scope(request, exchange.body, self.headers), exchange.receive, exchange.send)
        )
        await asyncio.wait({task}, timeout=self._limit)
        hang, stuck = "", False
        if not task.done():
            hang = _interrupt_workers()
            await asyncio.wait({task}, timeout=_GRACE_SECONDS)
            stuck = not task.done()
        escaped = None if stuck or hang else task.exception()
        if hang and not stuck:
            task.exception()  # retrieved, or the loop logs it
        return Response(
            exchange.status,
            exchange.headers,
            b"".join(exchange.parts),
            time.perf_counter() - start,
            hang,
            stuck,
            () if escaped is None else (f"escaped: {describe(escaped)}",),
        )


def describe(error: BaseException) -> str:
    """Kind of an error and its innermost project frame."""
    frames = traceback.extract_tb(error.__traceback__)
    project = [frame for frame in frames if _is_project_file(frame.filename)]
    place = _place(project[-1].filename, project[-1].lineno) if project else "outside the project"
    return f"{type(error).__name__} at {place}"


class _LogErrors(logging.Handler):
    """Collects the errors that the endpoint logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store a message."""
        error = record.exc_info[1] if record.exc_info else None
        self.messages.append(record.getMessage() if error is None else describe(error))


def _scope(request: Request, body: bytes, common: dict[str, str]) -> dict[str, Any]:
    path, _, query = request.target.partition("?")
    headers = {"host": "127.0.0.1:8000", "accept": "*/*", **common, **request.headers}
    if request.method in ("POST", "PUT"):
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
    }


def _interrupt_workers() -> str:
    """Raise in every thread that runs project code; where they were, the outermost frame first."""
    frames = sys._current_frames()
    places = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if not thread.name.startswith(_WORKERS) or frame is None:
            continue
        project = _project_frames(frame)
        if project and not project[0].startswith(_IDLE) and thread.ident is not None:
            places.append(" > ".join(project[-1 : -_SHOWN_FRAMES - 1 : -1]))
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(_TimeLimitError)
            )
    return "; ".join(places) or "no project code"


def _project_frames(frame: FrameType | None) -> list[str]:
    """Project frames of a stack, the innermost first, with functions in the place of lines."""
    names = []
    while frame is not None:
        if _is_project_file(frame.f_code.co_filename):
            file = _place(frame.f_code.co_filename, None)
            names.append(f"{file} {frame.f_code.co_name}")
        frame = frame.f_back
    return names


def _is_project_file(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _PACKAGES


def _place(filename: str, line: int | None) -> str:
    path = Path(filename)
    shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else Path(path.name)
    return shown.as_posix() if line is None else f"{shown.as_posix()}:{line}"
