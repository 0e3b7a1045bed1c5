"""One HTTP/1.1 connection with deadlines: for a head, a body, a pause, and taking an answer.

A deadline is a number that the connection keeps up to date as it reads and writes; the server looks
at those of all connections ten times a second (`OpenConnections.expire`). No timer is set, so a
request costs next to nothing more.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from math import inf
from typing import Any

from serving.console.assets import PREFIX
from serving.http.connections.limits import MAX_HEAD_BYTES, MAX_HEADERS
from serving.http.connections.open_connections import HEALTH_PATHS, OpenConnections
from serving.http.connections.plain_http import PlainHttpProtocol
from serving.http.connections.raw_answers import (
    LATE_BODY,
    LATE_HEAD,
    LONG_HEAD,
    STOPPING,
    TOO_MANY_BYTES,
    TOO_MANY_CONNECTIONS,
    RawAnswer,
    malformed,
)
from serving.http.security.response_headers import without_caching
from serving.telemetry.exchange import HEADER, UNKNOWN_METHOD, Exchange, exchange_of

LINGER_SECONDS = 1.0
"""After an answer that ends a connection, what still comes is read for so long: closing at once
would take the answer from a client that is still sending."""

MOST_PIPELINED = 64
"""A client that sends more requests without waiting for an answer is cut off."""


class _Reading(Enum):
    """The part of a request that is being received."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class Connection(PlainHttpProtocol):
    """A connection within the limits of its server.

    Parameters
    ----------
    all_open:
        All connections of the server.
    args, options:
        As uvicorn gives them.

    Attributes
    ----------
    deadline:
        Time of the loop at which the client is late; infinite while the server is to act.
    spare:
        Whether it was opened beyond the limit, for health only.
    """

    def __init__(self, all_open: OpenConnections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.deadline = inf
        self._all = all_open
        self._limits = all_open.limits
        self._reading = _Reading.NOTHING
        self._head_bytes = 0
        self._pending_bytes = 0
        self._write_deadline = inf
        self._refused = False
        self._received = 0
        self._framing_bytes = 0
        self._body_came = False
        self._moved = False
        self.spare = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.deadline = self.loop.time() + self._limits.head_seconds
        self._all.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._all.leave(self)
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read requests; what comes after a refusal is dropped."""
        if self._refused:
            return
        self._received = len(data)
        super().data_received(data)
        if self._moved:
            self._moved = False
            self._allow(self._seconds())
        if self._reading is _Reading.HEAD and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                if self._is_busy():
                    self.flow.pause_reading()  # until the request before is answered
                else:
                    self._all.note("head-too-long")
                    self.refuse(LONG_HEAD)
        elif self._reading is _Reading.BODY and not self._refused:
            self._framing_bytes = 0 if self._body_came else self._framing_bytes + len(data)
            self._body_came = False
            if self._framing_bytes > MAX_HEAD_BYTES:
                self._all.note("framing-too-long")
                self._refuse_body(LONG_HEAD)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._reading = _Reading.HEAD
        self._moved = True
        self._head_bytes = -MAX_HEAD_BYTES  # it is not known how much of the data is its own

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head. One after a body, a trailer, is left out: it must not pass for one of
        the head, which a proxy has seen and set (RFC 9110, 6.5.1)."""
        if self._reading is not _Reading.BODY:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, or refuse."""
        if self.parser.should_upgrade():
            return  # the head is read again
        refusal = self._refusal()
        if refusal is None:
            super().on_headers_complete()
            if self.scope["path"].startswith(PREFIX):
                self.cycle.default_headers = without_caching(self.server_state.default_headers)
        else:
            app = self.app
            self.app = refusal
            super().on_headers_complete()
            self.app = app
            self._all.log(self._exchange(refusal), self.scope["method"])
        self._reading = _Reading.BODY
        self._moved = True
        self._framing_bytes = 0
        if len(self.pipeline) > MOST_PIPELINED:
            self._all.note("pipelined")
            self.transport.abort()
        if self.spare or self._all.stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._body_came = True
        super().on_body(body)
        if self.cycle.response_complete or self._refused:
            return
        self._pending_bytes += len(body)
        self._all.pending_bytes += len(body)
        pending = self._all.pending_bytes
        if self._pending_bytes < pending > self._limits.max_pending_bytes:
            self._all.note("pending-bytes")
            self._refuse_body(TOO_MANY_BYTES)

    def on_message_complete(self) -> None:
        """The end of a request: from here on the client waits."""
        super().on_message_complete()
        if self.parser.should_upgrade():
            return
        self._reading = _Reading.NOTHING
        self._moved = True

    def on_response_complete(self) -> None:
        """The end of an answer: go on with the next request, or wait for one."""
        self.server_state.total_requests += 1
        if not self.pipeline:
            self._release()
        if self.transport.is_closing():
            self.deadline = self.loop.time() + self._limits.write_seconds
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            if self._reading is _Reading.BODY and not self.pipeline:
                self._allow(self._limits.body_seconds)
            self._start_asgi_task(cycle, app)
        elif self._reading is _Reading.NOTHING:
            self._allow(self._limits.idle_seconds)
        elif self._reading is _Reading.HEAD:
            self._allow(self._limits.head_seconds)

    def pause_writing(self) -> None:
        """The client does not take what is sent as fast as it is made."""
        super().pause_writing()
        self._write_deadline = self.loop.time() + self._limits.write_seconds

    def resume_writing(self) -> None:
        """It has taken it."""
        super().resume_writing()
        self._write_deadline = inf

    def idle_for(self, now: float) -> float:
        """Seconds without a request after an answer; negative otherwise."""
        if self.cycle is None or self._is_busy() or self._reading is not _Reading.NOTHING:
            return -inf
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return -inf
        return now - (self.deadline - self._limits.idle_seconds)

    def is_late(self, now: float) -> bool:
        """Whether a deadline is over."""
        return now >= self.deadline or now >= self._write_deadline

    def expire(self, now: float) -> None:
        """End the connection, or the request that is late."""
        if self._refused or self.transport.is_closing() or now >= self._write_deadline:
            if not self._refused:
                self._all.note("answer-not-taken")
            self.transport.abort()
        elif self._reading is _Reading.NOTHING:
            self.close()
        elif self._reading is _Reading.HEAD:
            self._all.note("head-late")
            self.refuse(LATE_HEAD, linger=not self.spare)
        elif self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self.deadline = now + 1.0  # the server does not read: the client cannot send
        else:
            self._all.note("body-late")
            self._refuse_body(LATE_BODY)

    def make_last(self) -> None:
        """Close after the answer that is being made."""
        if self._is_busy():
            self.cycle.keep_alive = False

    def end_unused(self) -> None:
        """Close unless a complete request is being answered."""
        if self._refused or self.transport.is_closing():
            return
        complete = self.cycle is not None and not self.cycle.more_body
        if self._is_busy() and (complete or self.pipeline):
            return
        was_answered = self._reading is _Reading.BODY and self.cycle.response_started
        if self._reading is _Reading.NOTHING or self._is_answering() or was_answered:
            self.close()
        else:
            self._all.note("shutting-down")
            self.refuse(STOPPING)

    def close(self) -> None:
        """Close once what was written is sent, or its time is over."""
        self.deadline = self.loop.time() + self._limits.write_seconds
        self.transport.close()

    def refuse(self, answer: RawAnswer, *, linger: bool = True) -> None:
        """Answer outside the application, and end the connection.

        `linger` goes on reading for a moment, so that the answer reaches a client that still sends.
        """
        self._refused = True
        in_work = self._is_busy()
        self._release()
        if not self.transport.is_closing():
            exchange = self._exchange(answer)
            headers = [*self.server_state.default_headers, (HEADER, exchange.id.encode())]
            self.transport.write(answer.encode(headers))
            if not in_work:  # else the application says so, as it has the request
                self._all.log(exchange, UNKNOWN_METHOD)
        if in_work:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.is_closing():
            return
        if linger and self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.deadline = self.loop.time() + LINGER_SECONDS
        else:
            self.close()

    def _exchange(self, answer: RawAnswer) -> Exchange:
        """What is said of the request that the server itself answers."""
        if self._is_busy():
            exchange = exchange_of(self.cycle.scope)
        elif self._reading is _Reading.NOTHING:
            exchange = Exchange(())
        else:
            exchange = Exchange(self.headers)
            if not self.spare:
                since = self.loop.time() - (self.deadline - self._limits.head_seconds)
                exchange.started -= max(since, 0.0)
        exchange.answered(answer.status)
        return exchange

    def _refuse(self, reason: str) -> None:
        """What was received is no HTTP, or none that is answered here."""
        self._all.note("not-http")
        if self._reading is _Reading.BODY:
            self._refuse_body(malformed(reason))
        elif not self._is_busy():
            self.refuse(malformed(reason))
        else:  # the requests before it are answered, and then the connection ends
            self.cycle.keep_alive = False
            self._refused = True

    def _refuse_body(self, answer: RawAnswer) -> None:
        """End the request whose body is being received."""
        if self.pipeline or self.cycle.response_started:
            self.transport.abort()
        else:
            self.refuse(answer)

    def _seconds(self) -> float:
        """How long the client may take for what it has to do next, once something was received."""
        if self._reading is _Reading.BODY:
            return inf if self.pipeline else self._limits.body_seconds
        if self._is_busy():
            return inf
        if self._reading is _Reading.NOTHING:
            return self._limits.idle_seconds  # it was answered before it was complete
        return self._limits.head_seconds if not self.spare else self.deadline - self.loop.time()

    def _allow(self, seconds: float) -> None:
        """Let the client take so long for what it has to do next."""
        if not self._refused:
            self.deadline = self.loop.time() + seconds

    def _release(self) -> None:
        """Its bodies are pending no more."""
        self._all.pending_bytes -= self._pending_bytes
        self._pending_bytes = 0

    def _refusal(self) -> RawAnswer | None:
        """Why a request whose head is complete is not passed to the application."""
        headers = self.headers
        size = 0
        if self._received > MAX_HEAD_BYTES or self._head_bytes > -MAX_HEAD_BYTES:
            size = len(self.url) + sum([len(name) + len(value) for name, value in headers])
        if len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            self._all.note("head-too-long")
            return LONG_HEAD
        if self._is_spare() and self.url.partition(b"?")[0].decode("latin-1") not in HEALTH_PATHS:
            self._all.note("connections-limit")
            return TOO_MANY_CONNECTIONS
        return None

    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _is_answering(self) -> bool:
        """Whether an answer has begun."""
        return self._is_busy() and self.cycle.response_started

    def _is_spare(self) -> bool:
        """Whether it is open for health only."""
        return self.spare and self._all.full
