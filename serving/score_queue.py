"""The queue of score calls; one thread decides on them in batches.

When the thread is free, the waiting calls form a batch: a single call is decided at once, calls
that arrive during a batch are decided together in the next one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from decisions.batch import EncodedResponse, ScoreCall
from market.core.errors import MargincastError
from serving.admission.deadline import DeadlineError
from serving.telemetry.exchange import CURRENT
from serving.telemetry.stages import STAGES, StageTime
from serving.telemetry.tracing.spans import Tracing

MAX_BATCH_CALLS = 64
MAX_BATCH_ACCOUNTS = 1_000
"""A batch ends before the call that would exceed these; a larger call is a batch of its own."""

LINGER_SECONDS = 0.001
"""Longest wait of a batch for further calls of recent callers; a single caller never waits."""

MAX_WAITING_CALLS = 1_024
MAX_WAITING_BYTES = 64 * 2**20
"""Calls, and bytes of their bodies, that may wait or be decided at once; one call always may."""

EXPIRE_SECONDS = 0.1
"""Seconds between checks of the deadlines of waiting calls."""

RETRY_SECONDS = 1
"""Retry-After of a refused call, seconds."""

_LOG = logging.getLogger("margincast.serving")

Result = EncodedResponse | BaseException
ScoreMany = Callable[[Sequence[ScoreCall]], Sequence[EncodedResponse | MargincastError]]
"""`serving.service.Service.score_many`."""


class QueueRefusedError(MargincastError):
    """A call was refused: the queue is full, or the endpoint stops."""


class QueueMetrics(Protocol):
    """Receives measurements of a queue."""

    def watch_pending(self, pending: Callable[[], float]) -> None:
        """Show the number of calls that are accepted and not decided yet."""

    def batch(self, calls: int, waited: Sequence[float]) -> None:
        """Count a batch of so many calls as it begins, each with its seconds in the queue."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call in the queue, where its result goes, and until when it may wait."""

    call: ScoreCall
    size: int
    since: float
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Result]
    seconds: float
    span: Any

    @property
    def accounts(self) -> int:
        """Number of accounts of the call."""
        return len(self.call.request.accounts)


class ScoreQueue:
    """Decides on calls in one thread, in the order in which they were submitted.

    Parameters
    ----------
    score_many:
        Decides on the calls of a batch: for each its response or its error, in the same order. What
        it raises is the result of every call of the batch.
    metrics:
        Counts batches and shows how many calls wait.
    tracing:
        Makes spans of the batches, if any.
    """

    def __init__(
        self, score_many: ScoreMany, metrics: QueueMetrics, tracing: Tracing | None = None
    ) -> None:
        self._score_many = score_many
        self._metrics = metrics
        self._tracing = tracing
        self._waiting: dict[_Waiting, None] = {}
        self._accounts = 0
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._wanted = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._calls = 0
        self._bytes = 0
        self._watched: set[asyncio.AbstractEventLoop] = set()
        self._most = self._most_before = 0
        metrics.watch_pending(lambda: self._calls)

    def submit(
        self, call: ScoreCall, size: int, seconds: float = math.inf
    ) -> asyncio.Future[Result]:
        """Put a call of the running event loop into the queue.

        Parameters
        ----------
        call:
            The call.
        size:
            Bytes of its body.
        seconds:
            A call that still waits after this time is not decided; its result is `DeadlineError`.

        Returns
        -------
        A future of its response, or of why there is none.

        Raises
        ------
        QueueRefusedError
            Too many calls wait, the queue is closed or its thread ended; the call was not accepted.
        """
        loop = asyncio.get_running_loop()
        exchange = CURRENT.get()
        span = None if exchange is None else exchange.span
        result: asyncio.Future[Result] = loop.create_future()
        waiting = _Waiting(call, size, time.perf_counter(), loop, result, seconds, span)
        with self._lock:
            self._check_room(size)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="score", daemon=True)
                thread.start()
                self._thread = thread
            self._calls += 1
            self._bytes += size
            self._most = max(self._most, self._calls)
            self._waiting[waiting] = None
            self._accounts += waiting.accounts
            self._rouse()
            if loop not in self._watched:
                self._watched.add(loop)
                loop.call_later(EXPIRE_SECONDS, self._expire, loop)
        return waiting.result

    def close(self) -> None:
        """Accept no more calls, and return when the accepted ones are decided and the thread ended.

        Closing again changes nothing.
        """
        with self._lock:
            self._closed = True
            self._rouse()
            thread = self._thread
        if thread is not None:
            thread.join()

    def health_error(self) -> str | None:
        """Why no call is decided any more; None while calls are, or would be."""
        thread = self._thread
        if thread is None or thread.is_alive() or self._closed:
            return None
        return "the scoring thread ended: start the process again"

    def _check_room(self, size: int) -> None:
        if self._closed:
            raise QueueRefusedError("the endpoint stops; send the call to its successor")
        if error := self.health_error():
            raise QueueRefusedError(error)
        full = self._calls >= MAX_WAITING_CALLS or self._bytes + size > MAX_WAITING_BYTES
        if full and self._calls:
            raise QueueRefusedError(
                f"{self._calls} calls of {self._bytes} bytes wait already; at most "
                f"{MAX_WAITING_CALLS} and {MAX_WAITING_BYTES} are accepted, try again later"
            )

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse expired calls of an event loop; check again while any waits."""
        now = time.perf_counter()
        with self._lock:
            waiting = [one for one in self._waiting if one.loop is loop]
            late = [one for one in waiting if now - one.since >= one.seconds]
            self._remove(late)
            self._calls -= len(late)
            self._bytes -= sum(one.size for one in late)
            if len(waiting) > len(late):
                loop.call_later(EXPIRE_SECONDS, self._expire, loop)
            else:
                self._watched.discard(loop)
        _deliver([(one, DeadlineError(one.seconds)) for one in late])

    def _remove(self, some: Sequence[_Waiting]) -> None:
        """Remove waiting calls; the lock is held."""
        for waiting in some:
            del self._waiting[waiting]
            self._accounts -= waiting.accounts

    def _run(self) -> None:
        while batch := self._next_batch():
            self._decide(batch)
            del batch  # its bodies are not kept until the next call

    def _next_batch(self) -> list[_Waiting]:
        """What waits, as one batch; waits for a first call. Empty once the queue is closed."""
        while True:
            self._wait_for(1, None)
            self._wait_for(min(self._expected_calls(), MAX_BATCH_CALLS), LINGER_SECONDS)
            with self._lock:
                if batch := self._take():
                    return batch
                if self._closed:
                    return []

    def _take(self) -> list[_Waiting]:
        """The calls of the next batch, which wait no more; the lock is held."""
        batch, accounts = list[_Waiting](), 0
        for waiting in self._waiting:
            accounts += waiting.accounts
            full = len(batch) == MAX_BATCH_CALLS or accounts > MAX_BATCH_ACCOUNTS
            if batch and full:
                break
            batch.append(waiting)
        self._remove(batch)
        return batch

    def _wait_for(self, calls: int, seconds: float | None) -> None:
        """Wait until so many calls wait or a batch is full, at most so long; None: no limit."""
        with self._lock:
            if self._has(calls):
                return
            self._wanted = calls
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            with self._lock:
                if self._wanted:
                    self._wanted = 0
                else:  # roused meanwhile
                    self._wake.get()

    def _has(self, calls: int) -> bool:
        full = self._accounts > MAX_BATCH_ACCOUNTS
        return len(self._waiting) >= calls or full or self._closed

    def _rouse(self) -> None:
        """Wake the thread if what it waits for is there; the lock is held."""
        if self._wanted and self._has(self._wanted):
            self._wanted = 0
            self._wake.put(None)

    def _expected_calls(self) -> int:
        """How many callers there are: the most calls that were open at once since the batch before
        the last one."""
        with self._lock:
            most, self._most = self._most, self._calls
        expected = max(most, self._most_before)
        self._most_before = most
        return expected

    def _decide(self, batch: Sequence[_Waiting]) -> None:
        """Decide on a batch and send the results to the event loops of its calls."""
        began = time.perf_counter()
        try:
            self._metrics.batch(len(batch), [began - waiting.since for waiting in batch])
        except Exception:  # noqa: BLE001  the thread must continue, and the calls are valid
            _LOG.exception("a batch of %d calls is not in the metrics", len(batch))
        pairs: list[tuple[_Waiting, Result]]
        try:
            results = self._score(batch)
            pairs = [*zip(batch, results, strict=True)]
        except BaseException as error:  # noqa: BLE001  the thread must continue, each caller raises it
            pairs = [(waiting, error) for waiting in batch]
        with self._lock:
            self._calls -= len(batch)
            self._bytes -= sum(waiting.size for waiting in batch)
        for loop in {waiting.loop for waiting in batch}:
            with suppress(RuntimeError):  # the loop is closed: no caller waits
                loop.call_soon_threadsafe(
                    _deliver, [pair for pair in pairs if pair[0].loop is loop]
                )

    def _score(self, batch: Sequence[_Waiting]) -> Sequence[EncodedResponse | MargincastError]:
        """The results of a batch, with spans of it where it is traced."""
        calls = [waiting.call for waiting in batch]
        spans = [waiting.span for waiting in batch if waiting.span is not None]
        if self._tracing is None or not spans:
            return self._score_many(calls)
        began, stages = time.perf_counter_ns(), list[StageTime]()
        token = STAGES.set(stages)
        try:
            return self._score_many(calls)
        finally:
            STAGES.reset(token)
            with suppress(Exception):  # the calls are sound, whatever becomes of their spans
                self._tracing.batch(spans, began, stages)


def _deliver(pairs: Sequence[tuple[_Waiting, Result]]) -> None:
    """Set results, in the event loop; callers that gave up are passed over."""
    for waiting, result in pairs:
        if not waiting.result.done():
            waiting.result.set_result(result)
