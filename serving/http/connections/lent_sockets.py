"""Listening sockets of workers that are away: others accept from them until their owner is back.

Each worker listens on a socket of its own, which the supervisor holds as well. So connections that
the kernel has queued there outlive the worker, and new ones are not refused: while a worker is
away, those that listen accept for it. The supervisor says on a pipe when that begins and ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import TypeAlias

LEAVES = b"leaves"
"""What a worker says when it begins to stop: its socket is not lent, as it closes it in order."""

Listen: TypeAlias = Callable[[socket.socket], Awaitable[asyncio.AbstractServer]]
"""Begins to accept connections from a socket."""

_LOG = logging.getLogger("margincast.serving")


def lend(pipe: Connection, number: int, listener: socket.socket, pid: int) -> None:
    """Have the worker at the other end accept from the socket of worker `number`.

    Raises
    ------
    OSError
        It is gone.
    """
    pipe.send_bytes(b"+%d" % number)
    reduction.send_handle(pipe, listener.fileno(), pid)


def take_back(pipe: Connection, number: int) -> None:
    """Have it accept from that socket no more.

    Raises
    ------
    OSError
        It is gone.
    """
    pipe.send_bytes(b"-%d" % number)


class LentSockets:
    """What a worker serves beside its own socket.

    Parameters
    ----------
    pipe:
        To the supervisor.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._servers: dict[int, asyncio.AbstractServer] = {}
        self._changing = asyncio.Lock()
        self._closed = False

    def begin(self, listen: Listen) -> None:
        """Follow the supervisor from now on; called on the loop of the server."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(
            target=self._follow, args=(loop, listen), name="lent-sockets", daemon=True
        )
        thread.start()

    def leave(self) -> None:
        """Say that this worker begins to stop."""
        with suppress(OSError):
            self._pipe.send_bytes(LEAVES)

    def close(self) -> None:
        """Accept from none of them any more."""
        self._closed = True
        while self._servers:
            self._servers.popitem()[1].close()

    def _follow(self, loop: asyncio.AbstractEventLoop, listen: Listen) -> None:
        with suppress(EOFError, OSError, RuntimeError):  # supervisor or loop are gone
            while True:
                said = self._pipe.recv_bytes()
                lent = None
                if said.startswith(b"+"):
                    lent = socket.socket(fileno=reduction.recv_handle(self._pipe))
                change = self._change(abs(int(said)), lent, listen)
                try:
                    asyncio.run_coroutine_threadsafe(change, loop).add_done_callback(_log_failure)
                except RuntimeError:
                    change.close()
                    raise

    async def _change(self, number: int, lent: socket.socket | None, listen: Listen) -> None:
        async with self._changing:
            before = self._servers.pop(number, None)
            if before is not None:
                before.close()
            if lent is not None:
                lent.setblocking(False)
                self._servers[number] = await listen(lent)
        if self._closed:  # the server began to stop meanwhile
            self.close()


def _log_failure(done: Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _LOG.error("the socket of another worker cannot be served", exc_info=error)
