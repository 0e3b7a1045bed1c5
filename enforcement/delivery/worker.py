"""The worker that delivers the outbox: at least once, in order, with retries.

An event is sent, then its row is marked as delivered. A process that is killed in between sends
it again with the same id. The events of one account reach a sink one after the other; accounts and
sinks are independent of each other.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from enforcement.delivery.outbox import (
    Attempted,
    Due,
    note_attempts,
    prune,
    put_behind,
    read_due,
    rearm,
)
from enforcement.delivery.retries import RetryPolicy
from enforcement.delivery.sinks import Outcome, Sink
from ledger.schema import database_errors
from ledger.store import Ledger
from market.core.clock import DAY, HOUR, SECOND
from market.core.errors import MargincastError
from monitoring.background_thread import BackgroundThread

LOOK_SECONDS = 0.1
"""Time between two looks for new rows while nothing happens."""

RETRY_SECONDS = 1.0
"""Pause after a failure of the ledger."""

STOP_SECONDS = 5.0
"""How long a stop waits for attempts that are under way."""

_PRUNE_EVERY = HOUR

_LOG = logging.getLogger("margincast.delivery")


class _Lane:
    """The attempts to one sink that are under way, each of another account."""

    def __init__(self, sink: Sink, concurrency: int) -> None:
        self.sink = sink
        self.accounts: dict[str, Future[None]] = {}
        self.failing = False
        self._most = 2 * concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix=f"deliver-{sink.name}")

    @property
    def free(self) -> int:
        """How many attempts may be added; as many again as run may wait for a thread."""
        return self._most - len(self.accounts)

    def start(self, due: Due, done: queue.SimpleQueue[tuple[Due, Outcome]]) -> None:
        running = self._pool.submit(self._attempt, due, done)
        self.accounts[due.message.account_id] = running

    def _attempt(self, due: Due, done: queue.SimpleQueue[tuple[Due, Outcome]]) -> None:
        try:
            outcome = self.sink.send(due.message)
        except Exception as error:  # noqa: BLE001  its thread would end without a result
            _LOG.exception("sink %r failed unexpectedly", self.sink.name)
            outcome = Outcome(False, f"unexpected {type(error).__name__}")
        done.put((due, outcome))

    def close(self) -> None:
        """Start no more attempts; those that had not begun are forgotten."""
        self.accounts = {name: run for name, run in self.accounts.items() if not run.cancel()}
        self._pool.shutdown(wait=False)


class DeliveryWorker(BackgroundThread):
    """Delivers the outbox of a ledger while its ``with`` block runs and this process leads.

    Rows and results pass through this one thread, which reads rows only as far as attempts are
    free and commits results that came in together at once; the memory that it needs does not grow
    with the outbox. Two processes that both believe to lead send some events twice and spoil no
    row, see `enforcement.delivery.outbox.note_attempts`.

    Parameters
    ----------
    ledger:
        With the outbox.
    sinks:
        By distinct names; rows of other sinks wait.
    policy:
        When failed attempts are repeated.
    is_leader:
        Whether this process delivers now.
    concurrency:
        Attempts to one sink that run side by side.
    keep_days:
        After so many days delivered and skipped rows are deleted.
    """

    def __init__(
        self,
        ledger: Ledger,
        sinks: Sequence[Sink],
        policy: RetryPolicy,
        is_leader: Callable[[], bool],
        concurrency: int = 4,
        keep_days: float = 30.0,
    ) -> None:
        super().__init__("deliver-events", 2 * STOP_SECONDS)
        self._ledger, self._sinks, self._policy = ledger, tuple(sinks), policy
        self._is_leader, self._concurrency = is_leader, concurrency
        self._keep = round(keep_days * DAY)
        self._done: queue.SimpleQueue[tuple[Due, Outcome]] = queue.SimpleQueue()
        self._results: list[Attempted] = []
        """Results that are not committed yet."""
        self._lanes: dict[str, _Lane] = {}
        self._leading = False
        self._pruned_at = 0
        self._said = ""

    def _run(self) -> None:
        self._lanes = {sink.name: _Lane(sink, self._concurrency) for sink in self._sinks}
        try:
            while not self._stop.is_set():
                self._try_round()
            self._finish()
        finally:
            for lane in self._lanes.values():
                lane.close()

    def _try_round(self) -> None:
        try:
            started = self._round()
        except MargincastError as error:
            self._report(f"events are not delivered: {error}")
            self._stop.wait(RETRY_SECONDS)
        except Exception as error:  # noqa: BLE001  delivery never ends because of an error
            self._report(f"events are not delivered: unexpected {error!r}", error)
            self._stop.wait(RETRY_SECONDS)
        else:
            if self._said:
                _LOG.warning("events are delivered again")
                self._said = ""
            if not started:
                self._collect(LOOK_SECONDS)

    def _report(self, problem: str, unexpected: Exception | None = None) -> None:
        if problem != self._said:
            _LOG.error("%s", problem, exc_info=unexpected)
        self._said = problem

    def _round(self) -> bool:
        """Commit what has come in and send what is due; whether there may be more at once."""
        self._collect(0.0)
        self._commit()
        if not self._is_leader():
            self._leading = False
            return False
        if not self._leading:
            with self._ledger.transaction() as connection:
                rearm(connection)
            self._leading = True
        self._prune()
        found = [self._send_due(lane) for lane in self._lanes.values()]
        return any(found)

    def _send_due(self, lane: _Lane) -> bool:
        """Start attempts; whether rows were found that were not known to be under way."""
        if lane.free <= 0:
            return False
        sink = lane.sink.name
        with database_errors("read"), self._ledger.engine.connect() as connection:
            # Rows under way are due as well, one an account.
            ready, behind = read_due(
                connection, sink, time.time_ns(), lane.free + len(lane.accounts)
            )
        if behind:
            with self._ledger.transaction() as connection:
                put_behind(connection, sink, behind)
        fresh = [due for due in ready if due.message.account_id not in lane.accounts]
        for due in fresh:
            lane.start(due, self._done)
        return bool(fresh or behind)

    def _collect(self, wait_seconds: float) -> None:
        """Take in what attempts ended with; wait for a first one."""
        try:
            if wait_seconds:
                self._take(*self._done.get(timeout=wait_seconds))
            while True:
                self._take(*self._done.get_nowait())
        except queue.Empty:
            return

    def _take(self, due: Due, outcome: Outcome) -> None:
        lane = self._lanes[due.sink]
        now = time.time_ns()
        failures = due.attempts + 1
        status: Literal["pending", "delivered", "dead"] = "delivered"
        at = now
        if not outcome.ok:
            status = "dead" if failures >= self._policy.attempts else "pending"
            if status == "pending":
                event_id = due.message.event_id
                pause = self._policy.pause(event_id, due.sink, failures, outcome.retry_after)
                at = now + round(pause * SECOND)
            else:
                _LOG.error(
                    "event %s is a dead letter of sink %r after %d attempts (%s): later events of "
                    "its account wait there until it is skipped",
                    *(due.message.event_id, due.sink, failures, outcome.detail),
                )
            if not lane.failing:
                _LOG.warning("sink %r fails: %s; trying on", due.sink, outcome.detail)
        elif lane.failing:
            _LOG.info("sink %r takes events again", due.sink)
        lane.failing = not outcome.ok
        self._results.append(Attempted(due, status, at, outcome.detail))

    def _commit(self) -> None:
        """Write the results; where that fails they are kept, and their accounts wait."""
        if not self._results:
            return
        with self._ledger.transaction() as connection:
            note_attempts(connection, self._results)
        for one in self._results:
            self._lanes[one.due.sink].accounts.pop(one.due.message.account_id, None)
        self._results = []

    def _prune(self) -> None:
        now = time.time_ns()
        if now - self._pruned_at < _PRUNE_EVERY:
            return
        with self._ledger.transaction() as connection:
            more = prune(connection, now - self._keep)
        if not more:
            self._pruned_at = now

    def _finish(self) -> None:
        """Let attempts that are under way end, so that fewer events are sent twice."""
        for lane in self._lanes.values():
            lane.close()
        end = time.monotonic() + STOP_SECONDS
        try:
            while any(lane.accounts for lane in self._lanes.values()):
                left = end - time.monotonic()
                if left <= 0.0:
                    break
                self._collect(min(left, LOOK_SECONDS))
                self._commit()
        except MargincastError as error:
            _LOG.warning("the last deliveries are not on record and will be repeated: %s", error)
