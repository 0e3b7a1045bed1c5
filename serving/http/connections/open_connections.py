"""All open connections of a server: who gets in, whose time is over, what they hold together."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from serving.http.connections.handshake import Handshake
from serving.http.connections.limits import ConnectionLimits
from serving.http.connections.raw_answers import TOO_MANY_CONNECTIONS
from serving.telemetry.connection_counts import ConnectionRefusal
from serving.telemetry.exchange import UNMATCHED, Exchange
from serving.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from serving.http.connections.connection import Connection

HEALTH_RESERVE = 8
"""Connections beyond the limit that get in, for a short time, to ask about health."""

HEALTH_PATHS = frozenset(("/health/live", "/health/ready", "/metrics"))

SPARE_SECONDS = 2.0
"""A connection beyond the limit has so long for its request."""

EVICTABLE_SECONDS = 1.0
"""A kept-alive connection that has been idle for so long makes room for a new one."""

LOG_SECONDS = 60.0
"""What was refused is logged once in so long, with its number."""

_LOG = logging.getLogger("margincast.serving")


class OpenConnections:
    """The connections of one server and what is decided about all of them.

    Parameters
    ----------
    limits:
        Their limits, the number among them.
    telemetry:
        Where they are counted, and requests noted that the server itself answers; None: nowhere.
    context:
        For TLS; None: plain HTTP.

    Attributes
    ----------
    pending_bytes:
        Bytes of bodies that were received and are not answered.
    stopping:
        Whether the server stops: every answer is then the last one of its connection.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        telemetry: Telemetry | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        telemetry = telemetry or Telemetry()
        self.limits = limits
        self._context = context
        self._counts, self._access_log = telemetry.connections, telemetry.access_log
        self.pending_bytes = 0
        self.stopping = False
        self._open: set[Connection] = set()
        self._handshakes: dict[Connection, asyncio.Transport] = {}  # the oldest first
        self._refused: Counter[ConnectionRefusal] = Counter()
        self._logged = -inf

    def protocol(self, *args: Any, **options: Any) -> Connection | Handshake:
        """A new connection, as uvicorn makes its protocols."""
        from serving.http.connections.connection import Connection

        connection = Connection(self, *args, **options)
        return connection if self._context is None else Handshake(self, self._context, connection)

    @property
    def full(self) -> bool:
        """Whether there are more than the limit."""
        return len(self._open) > self.limits.max_connections

    @property
    def empty(self) -> bool:
        """Whether none is open."""
        return not self._open and not self._handshakes

    def begin(self, connection: Connection, transport: asyncio.Transport) -> None:
        """Let a client shake hands; where too many do, the one that began first is cut off."""
        self._handshakes[connection] = transport
        free = self.limits.max_connections + HEALTH_RESERVE - len(self._open)
        if len(self._handshakes) > max(free, HEALTH_RESERVE):
            self.note("connections-limit")
            self._handshakes.pop(next(iter(self._handshakes))).abort()

    def end(self, connection: Connection) -> None:
        """A handshake is over."""
        self._handshakes.pop(connection, None)

    def admit(self, connection: Connection) -> None:
        """Let a new connection in; beyond the limit for health only, and then not at all.

        The connection that has been idle for longest makes room, if there is one.
        """
        self.end(connection)
        self._open.add(connection)
        self._counts.open = len(self._open)
        if not self.full:
            return
        now = connection.loop.time()
        idle = [one for one in self._open if one.idle_for(now) >= EVICTABLE_SECONDS]
        if idle:
            oldest = max(idle, key=lambda one: one.idle_for(now))
            oldest.close()
            self._open.discard(oldest)  # its descriptor is free before the next one is accepted
        elif len(self._open) > self.limits.max_connections + HEALTH_RESERVE:
            self.note("connections-limit")
            connection.refuse(TOO_MANY_CONNECTIONS, linger=False)
            self._open.discard(connection)
        else:
            connection.spare = True
            connection.deadline = now + min(self.limits.head_seconds, SPARE_SECONDS)

    def leave(self, connection: Connection) -> None:
        """A connection ended."""
        self._open.discard(connection)
        self._counts.open = len(self._open)

    def expire(self, now: float) -> None:
        """End what is late: half-sent requests, idle connections, answers that nobody takes."""
        for connection in [one for one in self._open if one.is_late(now)]:
            connection.expire(now)
        if self._refused and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            what = ", ".join(f"{count} {reason}" for reason, count in self._refused.items())
            self._refused.clear()
            _LOG.warning("%d connections are open; refused or ended: %s", len(self._open), what)

    def note(self, reason: ConnectionRefusal) -> None:
        """Count something that was refused, for the log and the metrics."""
        self._counts.refused[reason] += 1
        self._refused[reason] += 1

    def log(self, exchange: Exchange, method: str) -> None:
        """Write the line of a request that the server itself answered."""
        if self._access_log is not None:
            exchange.route = UNMATCHED
            self._access_log.note(exchange, method)

    def stop(self) -> None:
        """Make every answer the last one of its connection."""
        self.stopping = True
        for connection in self._open:
            connection.make_last()

    def end_unused(self) -> None:
        """Close the idle connections, and answer 503 to half-sent requests."""
        self._cut_handshakes()
        for connection in list(self._open):
            connection.end_unused()

    def abort(self) -> None:
        """Cut off what is left."""
        self._cut_handshakes()
        for connection in list(self._open):
            connection.transport.abort()

    def _cut_handshakes(self) -> None:
        for transport in list(self._handshakes.values()):
            transport.abort()

    async def expire_until(self, until: float, done: Callable[[], bool]) -> None:
        """Go on ending what is late until a time of the loop, or until something is done."""
        loop = asyncio.get_running_loop()
        while loop.time() < until and not done():
            self.expire(loop.time())
            await asyncio.sleep(0.02)
