"""The access log: one line for each request that was answered."""

from __future__ import annotations

import os
import time

import msgspec

from serving.telemetry.exchange import Exchange
from serving.telemetry.logs.lines import LineWriter
from serving.telemetry.logs.records import LogSettings, time_text

LOGGER = "margincast.access"


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request and its answer as JSON.

    `route` is the template of the path, never the path itself. `milliseconds` is the time until
    the answer began. `status` is null where the client left before. `decision_ids` are the first
    few of `decisions`.
    """

    time: str
    level: str
    logger: str
    request_id: str
    method: str
    route: str
    status: int | None
    milliseconds: float
    pid: int
    worker: int | None = None
    decisions: int = 0
    decision_ids: list[str] = []


class AccessLog:
    """Writes a line for each request.

    Parameters
    ----------
    writer:
        Where lines go.
    settings:
        Their form.
    """

    def __init__(self, writer: LineWriter, settings: LogSettings) -> None:
        self._writer = writer
        self._settings = settings
        self._pid = os.getpid()

    def note(self, exchange: Exchange, method: str) -> None:
        """Write the line of a request that was answered."""
        self._writer.put(
            _Pending(exchange, method, time.time(), self._pid, self._settings), of_request=True
        )


class _Pending:
    """A line that is formatted by the thread that writes it."""

    __slots__ = ("_at", "_exchange", "_method", "_pid", "_settings")

    def __init__(
        self, exchange: Exchange, method: str, at: float, pid: int, settings: LogSettings
    ) -> None:
        self._exchange, self._method, self._at = exchange, method, at
        self._pid, self._settings = pid, settings

    def encode(self) -> bytes:
        """The line without its end."""
        exchange, settings = self._exchange, self._settings
        seconds = exchange.seconds
        if seconds is None:
            seconds = time.perf_counter() - exchange.started
        line = AccessLine(
            time=time_text(self._at),
            level="info",
            logger=LOGGER,
            request_id=exchange.id,
            method=self._method,
            route=exchange.route,
            status=exchange.status,
            milliseconds=round(1e3 * seconds, 3),
            pid=self._pid,
            worker=settings.worker,
            decisions=exchange.decisions,
            decision_ids=list(exchange.decision_ids),
        )
        return _ENCODER.encode(line) if settings.format == "json" else _as_text(line).encode()


_ENCODER = msgspec.json.Encoder()


def _as_text(line: AccessLine) -> str:
    status = "left" if line.status is None else str(line.status)
    text = (
        f"{line.time} {line.level} {line.logger}: {line.method} {line.route} {status} "
        f"{line.milliseconds} ms request_id={line.request_id}"
    )
    if line.decisions:
        text += f" decisions={line.decisions} decision_ids={','.join(line.decision_ids)}"
    return text + (f" worker={line.worker} pid={line.pid}" if line.worker is not None else "")
