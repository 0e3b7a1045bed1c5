"""A TLS connection until its handshake is done: it is counted, has a deadline, and can be ended.

An event loop with a TLS context reports a connection only after its handshake, so silent clients
would use up all descriptors, whatever the limit of connections. The server therefore accepts plain
TCP, and each connection brings its own TLS protocol, the one that the loop would use.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]  # its types leave it out

if TYPE_CHECKING:
    from serving.http.connections.connection import Connection
    from serving.http.connections.open_connections import OpenConnections


class Handshake(SSLProtocol):  # type: ignore[misc]  # untyped
    """Shakes hands within the time for a head, and then passes on what was encrypted.

    Parameters
    ----------
    all_open:
        All connections of the server.
    context:
        Of the server's certificate.
    connection:
        Reads and writes what is encrypted.
    """

    def __init__(
        self, all_open: OpenConnections, context: ssl.SSLContext, connection: Connection
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            connection,
            context,
            None,
            server_side=True,
            ssl_handshake_timeout=all_open.limits.head_seconds,
        )
        self._all, self._connection = all_open, connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._all.begin(self._connection, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._all.end(self._connection)
        super().connection_lost(exc)
