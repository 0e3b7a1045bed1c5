"""A lane: threads for one kind of call, with a bounded queue.

A kind of call that is slow or comes in masses fills its own lane and delays no other.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from market.core.errors import MargincastError
from serving.admission.deadline import DeadlineError

T = TypeVar("T")

MOST_RETRY_SECONDS = 120
"""Largest Retry-After of a refused call."""


class LaneFullError(MargincastError):
    """The queue of a kind of call is full, or the endpoint stops.

    Attributes
    ----------
    retry_seconds:
        Seconds after which a retry is sensible.
    """

    def __init__(self, message: str, retry_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


@dataclass(slots=True, eq=False)
class _Job:
    """A waiting or running call, and the future of its result."""

    run: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]
    began: float = 0.0


class Lane:
    """Runs calls of one kind in a few threads, in the order in which they came.

    The threads do not keep the process from ending.

    Parameters
    ----------
    name:
        What the calls are, in the plural, for messages and names of threads.
    threads:
        Calls that run at once.
    waiting:
        Calls that may wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._most_threads, self._most_waiting = threads, waiting
        self._threads: list[threading.Thread] = []
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._running: set[_Job] = set()
        self._last_seconds = 0.0
        self._closed = False

    async def run(self, call: Callable[[], T], seconds: float) -> T:
        """The result of a call.

        Parameters
        ----------
        call:
            Run in a thread of the lane, in the context of the caller.
        seconds:
            How long it may wait for one; once it runs it is waited for.

        Raises
        ------
        LaneFullError
            Too many calls wait, or the lane is closed; the call is not run.
        DeadlineError
            It waited for too long, and is not run.
        """
        loop = asyncio.get_running_loop()
        job = _Job(partial(copy_context().run, call), loop, loop.create_future())
        self._add(job)
        timer = loop.call_later(seconds, self._expire, job, seconds)
        try:
            result: T = await job.result
        finally:
            timer.cancel()
            self._withdraw(job)  # if the caller was cancelled
        return result

    def close(self) -> None:
        """Refuse new and waiting calls; return when no call runs."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for job in jobs:
            self._settle(job, None, self._stopping())
        for thread in self._threads:
            thread.join()

    def _add(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise self._stopping()
            if len(self._running) + len(self._jobs) >= self._most_threads + self._most_waiting:
                raise LaneFullError(
                    f"{len(self._jobs)} {self._name} wait already, and no more are accepted; "
                    "try again later",
                    self._retry_seconds(),
                )
            self._jobs.append(job)
            threads = len(self._threads)
            if threads < min(len(self._running) + len(self._jobs), self._most_threads):
                name = f"{self._name}-{threads + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def _stopping(self) -> LaneFullError:
        return LaneFullError("the endpoint stops; send the call to its successor")

    def _work(self) -> None:
        """The body of a thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                job = self._jobs.popleft()
                job.began = time.monotonic()
                self._running.add(job)
            result, failure = None, None
            try:
                result = job.run()
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                failure = error
            with self._changed:
                self._running.remove(job)
                self._last_seconds = time.monotonic() - job.began
            self._settle(job, result, failure)
            del job, result, failure  # large answers are not kept until the next call

    def _expire(self, job: _Job, seconds: float) -> None:
        if self._withdraw(job):
            with self._changed:
                retry = self._retry_seconds()
            _deliver(job.result, None, DeadlineError(seconds, retry))

    def _retry_seconds(self) -> int:
        """Seconds until a refused call is likely to be accepted; the lock is held.

        A call is taken to last as long as the last one, or as what runs has lasted already.
        """
        now = time.monotonic()
        longest = max([self._last_seconds, *(now - job.began for job in self._running)])
        rounds = (1 + len(self._jobs)) / self._most_threads
        return max(1, min(MOST_RETRY_SECONDS, math.ceil(longest * rounds)))

    def _withdraw(self, job: _Job) -> bool:
        """Remove a waiting call; returns whether it still waited."""
        with self._changed:
            if job not in self._jobs:
                return False
            self._jobs.remove(job)
        return True

    def _settle(self, job: _Job, result: object, failure: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: no caller waits
            job.loop.call_soon_threadsafe(partial(_deliver, job.result, result, failure))


def _deliver(future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    """Set a result, in the event loop; ignored if the caller gave up."""
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
