"""Logs: what the loggers ``margincast.*`` and others say, one line each, as text or as JSON.

Python's own loggers with one formatter: they are there already, and the usual package for
structured logs takes 0.2 s to import (docs/adr/0051-telemetry.md). A line says when, how severe,
which logger, what, and of the endpoint which worker, process and request.

A line is one line: line breaks in a message become blanks, and an error is its type, its message
and the place that raised it. JSON also has the call stack. The message of an error that is not one
of ours is shown with ``--debug`` only, as it may quote an account; ids of accounts in work and
credentials of addresses are taken out of every line.

Reference: RFC 8259 (JSON).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal

import msgspec

from market.core.errors import MargincastError
from market.core.redaction import redact, withhold
from serving.telemetry.exchange import CURRENT
from serving.telemetry.logs.lines import LineWriter, write_stderr

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

MAX_MESSAGE = 1_000
MAX_ERROR = 500
MAX_STACK = 1_200
"""Longest texts in a line, in characters: with escapes a line stays below `lines.MOST_BYTES`."""

_FORMATTED = "margincast"
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_ESCAPED = 3_800
"""Longest line in bytes; a text full of escapes is cut further."""


class LoggedError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error: its type, where it was raised, and what it says where that may be shown."""

    type: str
    at: str
    message: str = ""
    stack: str = ""


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the log as JSON; `worker` only of an endpoint."""

    time: str
    level: str
    logger: str
    message: str
    pid: int
    worker: int | None = None
    request_id: str | None = None
    error: LoggedError | None = None


class LogSettings(msgspec.Struct, frozen=True):
    """How lines look, from which level on, and which worker writes them, if any."""

    format: LogFormat = "text"
    level: LogLevel = "info"
    worker: int | None = None


class LineFormatter(logging.Formatter):
    """A record of a logger as one line.

    Parameters
    ----------
    settings:
        How.
    """

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._settings = settings
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        debug = bool(os.environ.get("MARGINCAST_DEBUG"))
        error = record.exc_info[1] if record.exc_info else None
        exchange = CURRENT.get()
        line = LogLine(
            time=time_text(record.created),
            level=record.levelname.lower(),
            logger=record.name,
            message=one_line(_message(record, debug), MAX_MESSAGE),
            pid=self._pid,
            worker=self._settings.worker,
            request_id=None if exchange is None else exchange.id,
            error=None if error is None else describe(error, debug),
        )
        if self._settings.format == "json":
            return _as_json(line)
        text = as_text(line)
        if error is not None and debug:
            text += "\n" + withhold(redact("".join(traceback.format_exception(error)).rstrip()))
        return text


class StderrHandler(logging.Handler):
    """Sends lines to stderr: at once, or through a `LineWriter`."""

    def __init__(self, settings: LogSettings, writer: LineWriter | None) -> None:
        super().__init__()
        self.json = settings.format == "json"
        self._writer = writer
        self.setFormatter(LineFormatter(settings))

    def emit(self, record: logging.LogRecord) -> None:
        """Format and send; an error of that is not raised."""
        try:
            encoded = self.format(record).encode("utf-8", errors="backslashreplace")
            if self._writer is None:
                write_stderr(encoded + b"\n")
            else:
                self._writer.put(encoded)
        except Exception:  # noqa: BLE001  as every handler of the standard library
            self.handleError(record)


def configure_logs(settings: LogSettings, writer: LineWriter | None = None) -> None:
    """Send what all loggers say to stderr, in place of an earlier call's way.

    The level is that of the loggers ``margincast.*``; others are heard from ``warning`` on. JSON
    has Python's warnings as well.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, StderrHandler):
            root.removeHandler(handler)
    root.addHandler(StderrHandler(settings, writer))
    logging.getLogger(_FORMATTED).setLevel(_LEVELS[settings.level])
    if settings.format == "json":
        logging.captureWarnings(True)


def writes_json() -> bool:
    """Whether the log of this process is JSON."""
    handlers = logging.getLogger().handlers
    return any(isinstance(handler, StderrHandler) and handler.json for handler in handlers)


def log_uncaught_errors() -> None:
    """Have errors that end a thread or the process logged in one line."""
    log = logging.getLogger("margincast")

    def in_thread(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None and not issubclass(failure.exc_type, SystemExit):
            name = failure.thread.name if failure.thread is not None else "unknown"
            log.error("the thread %s ended by an error", name, exc_info=failure.exc_value)

    def in_process(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log.critical("the process ends by an error", exc_info=(kind, error, trace))

    threading.excepthook = in_thread
    sys.excepthook = in_process


def time_text(seconds: float) -> str:
    """An ISO 8601 time in UTC with microseconds."""
    whole, part = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{part:06d}Z"


_SECONDS: dict[int, str] = {}


def _second(whole: int) -> str:
    """The text of a second; the newest one is kept, as many lines share it."""
    text = _SECONDS.get(whole)
    if text is None:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _SECONDS.clear()
        _SECONDS[whole] = text
    return text


def one_line(text: str, most: int) -> str:
    """A text on one line, at most so long, without credentials and ids of accounts."""
    shown = " ".join(withhold(redact(text)).split())
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def describe(error: BaseException, debug: bool) -> LoggedError:
    """An error as it is logged.

    Parameters
    ----------
    error:
        The error; the ones that caused it are named in the stack.
    debug:
        Whether to show the messages of errors that are not ours.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{_place(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    stack = "; ".join(_stack(error, debug))
    return LoggedError(
        type(error).__name__,
        at,
        one_line(_said(error, debug), MAX_ERROR),
        one_line(stack, MAX_STACK),
    )


def _message(record: logging.LogRecord, debug: bool) -> str:
    """The message, in which errors that are not ours are their types."""
    arguments: Any = record.args
    if isinstance(arguments, tuple):
        arguments = tuple(
            _named(value, debug) if isinstance(value, BaseException) else value
            for value in arguments
        )
    text = str(record.msg)
    return text % arguments if arguments else text


def _named(error: BaseException, debug: bool) -> str:
    return _said(error, debug) or type(error).__name__


def _said(error: BaseException, debug: bool) -> str:
    """What an error says, if it may be shown."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if debug:
        return str(error)
    if not isinstance(error, MargincastError):
        return ""
    cause = error.__cause__
    if cause is None or isinstance(cause, MargincastError):
        return str(error)
    return str(error).replace(repr(cause), type(cause).__name__)


def _stack(error: BaseException, debug: bool) -> Iterator[str]:
    """The frames of an error, the innermost first, then its cause, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if current is not error:
            said = _said(current, debug)
            yield f"from {type(current).__name__}" + (f": {said}" if said else "")
        for frame in reversed(traceback.extract_tb(current.__traceback__)):
            yield f"{_place(frame.filename)}:{frame.lineno} {frame.name}"
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )


def _place(filename: str) -> str:
    """A file without the folders of this machine."""
    parts = filename.replace("\\", "/").split("/")
    return "/".join(parts[-3:])


def _as_json(line: LogLine) -> str:
    encoded = msgspec.json.encode(line)
    if len(encoded) > _ESCAPED:
        # Escapes and characters of several bytes: cut the texts by as much as they grew.
        share = _ESCAPED / (2 * len(encoded))
        error = line.error
        if error is not None:
            error = LoggedError(
                error.type,
                error.at,
                error.message[: int(MAX_ERROR * share)],
                error.stack[: int(MAX_STACK * share)],
            )
        message = line.message[: int(MAX_MESSAGE * share)]
        encoded = msgspec.json.encode(msgspec.structs.replace(line, message=message, error=error))
    return encoded.decode()


def as_text(line: LogLine) -> str:
    """A line for people to read."""
    parts = [line.time, line.level, f"{line.logger}:", line.message]
    error = line.error
    if error is not None:
        parts.append(f"[{error.type}" + (f": {error.message}" if error.message else "") + "]")
        parts += [f"at={error.at}"] if error.at else []
    parts += [f"request_id={line.request_id}"] if line.request_id is not None else []
    if line.worker is not None:
        parts += [f"worker={line.worker}", f"pid={line.pid}"]
    return " ".join(parts)
