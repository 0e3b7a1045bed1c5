"""Limits of connections: their number, what each may send and how long it may take."""

from __future__ import annotations

import resource
from dataclasses import dataclass, fields
from pathlib import Path

from market.core.errors import ConfigError

RESERVED_DESCRIPTORS = 48
"""File descriptors that are kept for the ledger, bundles, rule files and health probes."""

FEWEST_CONNECTIONS = 4
MOST_CONNECTIONS = 4_096
"""Where the configuration names no number, it is within these."""

MAX_HEAD_BYTES = 32 * 2**10
MAX_HEADERS = 100
"""A request line with its headers, and the number of these; beyond it the answer is 431."""

MAX_PENDING_BYTES = 128 * 2**20
"""Bytes of bodies of all requests that are not answered yet, where the configuration has 0."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may do with connections.

    Attributes
    ----------
    max_connections:
        Open connections; 0: as many as `connection_limit` finds room for.
    head_seconds:
        From the first byte of a request, or from the opening of the connection, until its head is
        complete; then 408.
    body_seconds:
        From there until its body is complete; then 408.
    idle_seconds:
        A kept-alive connection without a request is closed after so long.
    write_seconds:
        A client that has not taken its answer after so long is cut off.
    max_pending_bytes:
        Bytes of bodies, received and not answered, of all connections together; a request that
        exceeds it is answered 503, unless it is the only one.
    drain_seconds:
        After the signal to stop connections are accepted for so long, while readiness is 503.
    stop_seconds:
        After the signal to stop all is over within so long; requests that are still not answered
        are cut off.

    Raises
    ------
    ConfigError
        A value is negative, or a time that must pass is 0.
    """

    max_connections: int = 0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    write_seconds: float = 60.0
    max_pending_bytes: int = MAX_PENDING_BYTES
    drain_seconds: float = 0.0
    stop_seconds: float = 60.0

    def __post_init__(self) -> None:
        may_be_zero = ("max_connections", "drain_seconds")
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name not in may_be_zero):
                raise ConfigError(f"{field.name} is {value}; expected more than 0")


def connection_limit(requested: int) -> int:
    """How many connections can be open at once.

    As many as requested, or up to `MOST_CONNECTIONS` where that is 0, but no more than the limit
    of file descriptors leaves beside those that are open now and `RESERVED_DESCRIPTORS`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = requested or MOST_CONNECTIONS
    if soft == resource.RLIM_INFINITY:
        return limit
    room = soft - len(list(Path("/dev/fd").iterdir())) - RESERVED_DESCRIPTORS
    return min(limit, max(room, FEWEST_CONNECTIONS))
