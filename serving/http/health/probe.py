"""A probe: a value that a thread computes on demand, with a bounded wait for readers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A value and how old it is.

    Attributes
    ----------
    value:
        The newest one; None: there is none yet.
    age:
        Seconds since it was found; 0 for one that was found for this reading.
    unknown:
        Seconds for which a newer value has been awaited; 0 for a value of this reading.
    """

    value: T | None
    age: float
    unknown: float


class Probe(Generic[T]):
    """Computes a value in a thread, only when it is read.

    Parameters
    ----------
    name:
        Of the thread.
    find:
        Finds the value; what it raises is logged, and the value is then None.
    """

    def __init__(self, name: str, find: Callable[[], T]) -> None:
        self._name, self._find = name, find
        self._lock = threading.Lock()
        self._value: T | None = None
        self._found = time.monotonic()
        self._since: float | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    async def read(self, seconds: float) -> Reading[T]:
        """A value computed now, or the last one if that takes longer than so many seconds."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((loop, done))
            if self._since is None:
                self._start()
        try:
            async with asyncio.timeout(seconds):
                await done
        except TimeoutError:
            return self._last()
        finally:
            with self._lock, suppress(ValueError):  # already removed if it was woken
                self._waiting.remove((loop, done))
        return Reading(self._value, 0.0, 0.0)

    def _start(self) -> None:
        """Begin to look for a value; the lock is held."""
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread available: the next reading tries again
            _LOG.error("%s is not looked for: %s", self._name, error)
        else:
            self._since = time.monotonic()

    def _last(self) -> Reading[T]:
        now = time.monotonic()
        with self._lock:
            since = self._since
            return Reading(self._value, now - self._found, 0.0 if since is None else now - since)

    def _run(self) -> None:
        value: T | None = None
        try:
            value = self._find()
        except Exception:  # noqa: BLE001 - readers must get an answer
            _LOG.exception("%s failed", self._name)
        with self._lock:
            self._value, self._found, self._since = value, time.monotonic(), None
            waiting, self._waiting = self._waiting, []
        for loop, done in waiting:
            with suppress(RuntimeError):  # the loop is closed: no reader waits
                loop.call_soon_threadsafe(_wake, done)


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
