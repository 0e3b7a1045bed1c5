"""The HTTP server under the application: uvicorn on uvloop, with the httptools parser."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, cast

from serving.http.connections.lent_sockets import LentSockets
from serving.http.connections.limits import ConnectionLimits, connection_limit
from serving.http.security.response_headers import security_headers
from serving.http.security.tls import Certificate
from serving.http.starting import StartingApplication
from serving.telemetry.telemetry import Telemetry

SWITCH_SECONDS = 0.001
"""How long the scoring thread may keep the interpreter from the event loop. With scoring that never
releases it, 8 connections got 8% more answers than at the default 5 ms and 32 got 18%; shorter
times gave no more."""

LAST_REQUEST_SECONDS = 0.5
"""When no new connection is taken any more, requests that are on their way on open ones are taken
for so long; each answer is then the last one of its connection."""

CLOSE_SECONDS = 5.0
"""The application has so long beyond the time to stop to end; then the process ends without it."""

STOPPING = "stopping"
"""Key of the ASGI state that says so to the application: True once the server is to stop."""

_LOG = logging.getLogger("margincast.serving")


class Transport(NamedTuple):
    """How requests come in.

    Attributes
    ----------
    certificate:
        For TLS; None: plain HTTP.
    proxies:
        Addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are believed.
    limits:
        Of connections.
    """

    certificate: Certificate | None = None
    proxies: tuple[str, ...] = ()
    limits: ConnectionLimits = ConnectionLimits()

    @property
    def scheme(self) -> str:
        """Of the endpoint's address."""
        return "http" if self.certificate is None else "https"


PLAIN = Transport()
"""Plain HTTP, and no proxy is believed."""


def run_server(
    app: Any,
    listener: socket.socket,
    started: Callable[[], None],
    transport: Transport = PLAIN,
    telemetry: Telemetry | None = None,
    lent: LentSockets | None = None,
) -> None:
    """Answer requests on a bound socket until SIGINT or SIGTERM.

    The application then finds `STOPPING` in the state of each request, so that it can say that it
    is not ready. After ``drain_seconds`` no connection is taken any more; requests that were
    received are answered, half-sent ones get 503, idle connections are closed, and the lifespan of
    the application ends. What is left after ``stop_seconds`` is cut off. SIGTERM ends the process
    afterwards, as by default.

    Parameters
    ----------
    app:
        The ASGI application.
    listener:
        A bound TCP socket; the server closes it.
    started:
        Called once the server listens.
    transport:
        TLS, proxies, and limits of connections.
    telemetry:
        Where it counts its connections, and notes the requests that it answers in place of the
        application; None: nowhere.
    lent:
        Sockets of other workers that it serves while they are away, if there are others.
    """
    import uvicorn
    import uvloop  # by name, where uvicorn would fall back to a slower loop in silence

    from serving.http.connections.listening import SETTLE_SECONDS, take_no_more
    from serving.http.connections.open_connections import OpenConnections

    given = transport.limits
    limits = replace(given, max_connections=connection_limit(given.max_connections))
    _log_limit(given.max_connections, limits.max_connections)
    certificate = transport.certificate
    context = None if certificate is None else certificate.context
    connections = OpenConnections(limits, telemetry, context)
    followers: list[asyncio.Future[None]] = []  # kept, for the loop holds tasks weakly

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if certificate is not None:
                followers.append(asyncio.ensure_future(certificate.follow()))
            if lent is not None:
                lent.begin(self._listen_on)
            if self.started:
                started()

        async def _listen_on(self, bound: socket.socket) -> asyncio.AbstractServer:
            def protocol() -> asyncio.Protocol:
                return connections.protocol(
                    config=config, server_state=self.server_state, app_state=self.lifespan.state
                )

            return await asyncio.get_running_loop().create_server(
                protocol, sock=bound, backlog=config.backlog
            )

        async def on_tick(self, counter: int) -> bool:
            connections.expire(asyncio.get_running_loop().time())
            return await super().on_tick(counter)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.lifespan.state[STOPPING] = True
            super().handle_exit(sig, frame)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            now = asyncio.get_running_loop().time
            end = now() + limits.stop_seconds
            self.lifespan.state[STOPPING] = True
            connections.stop()
            if lent is not None:
                lent.leave()
            await connections.expire_until(now() + limits.drain_seconds, self._hurries)
            for bound in sockets or []:
                take_no_more(bound)
            await connections.expire_until(now() + SETTLE_SECONDS, self._hurries)
            for server in self.servers:
                server.close()
            if lent is not None:
                lent.close()
            for bound in sockets or []:
                bound.close()
            await connections.expire_until(now() + LAST_REQUEST_SECONDS, self._answered)
            connections.end_unused()
            await connections.expire_until(end, self._answered)
            if not connections.empty and not self.force_exit:
                _LOG.error("requests are not answered %g s after the stop", limits.stop_seconds)
            connections.abort()
            await self._end(max(end - now(), 0.0) + CLOSE_SECONDS)

        def _hurries(self) -> bool:
            return self.force_exit

        def _answered(self) -> bool:
            return self.force_exit or (connections.empty and not self.server_state.tasks)

        async def _end(self, seconds: float) -> None:
            """End the lifespan and the shared threads; one that does not come to an end does not
            hold the process."""
            ended = asyncio.ensure_future(self._end_all())
            await asyncio.wait((ended,), timeout=seconds)
            if not ended.done():
                _LOG.error("the application did not end in time; the process ends without it")
                os._exit(1)
            await ended

        async def _end_all(self) -> None:
            await self.lifespan.shutdown()
            await asyncio.get_running_loop().shutdown_default_executor()

    config = uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], connections.protocol),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=bool(transport.proxies),
        forwarded_allow_ips=list(transport.proxies),
        headers=security_headers(tls=certificate is not None),
        server_header=False,
    )
    server = Server(config)
    if isinstance(app, StartingApplication):
        app.stop = partial(setattr, server, "should_exit", True)
    sys.setswitchinterval(SWITCH_SECONDS)
    with (
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(server.serve(sockets=[listener]))


def _log_limit(requested: int, limit: int) -> None:
    """Say how many connections can be open, and why not more."""
    if limit < requested:
        _LOG.warning(
            "at most %d connections are open at once, not %d: the limit of file descriptors "
            "leaves no more (ulimit -n, LimitNOFILE)",
            limit,
            requested,
        )
    else:
        _LOG.info("at most %d connections are open at once", limit)
