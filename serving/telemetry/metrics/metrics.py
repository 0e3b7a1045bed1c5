"""Metrics for Prometheus: counters and histograms of what the endpoint does.

One process keeps them in memory. Several workers keep them in files of a common folder, so that
each of them answers for all, and a worker that is restarted counts on from where its predecessor
was killed (`MetricsFolder`).

References: Prometheus, "Metric and label naming"; prometheus_client, "Multiprocess Mode".
"""

from __future__ import annotations

import os
import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue

from decisions.messages import Binding, Decision
from monitoring.book.messages import UpdateResult, UpdateStatus
from monitoring.market_state.messages import BarResult, BarStatus
from monitoring.quotes.messages import QuoteResult, QuoteStatus
from monitoring.shadow import ShadowResult
from serving.telemetry.connection_counts import ConnectionCounts, ConnectionRefusal
from serving.telemetry.metrics.batch_histogram import BatchHistogram
from serving.telemetry.metrics.degradation import KINDS, OTHER, kind_of_degradation

CONTENT_TYPE = "text/plain; version=0.0.4"
"""Media type of the exposition; the framework adds the character set."""

Stage = Literal["decide", "commit", "encode"]

Refusal = Literal[
    "deadline",
    "host-refused",
    "origin-refused",
    "overloaded",
    "rate-limited",
    "unsupported-media-type",
]
"""Why the application refused a request, as in the type of its problem."""

_REFUSALS: tuple[str, ...] = get_args(Refusal)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALLS = (1, 2, 4, 8, 16, 32, 64)
_PROBABILITIES = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_MARK_AGES = (1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 86400.0)
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class MetricsFolder:
    """Where workers of one service keep their metrics.

    Attributes
    ----------
    path:
        The folder, on a file system in memory where there is one; the supervisor makes and removes
        it.
    worker:
        Number of this worker, which names its files: its successor counts on in them.
    """

    path: Path
    worker: int

    def enter(self) -> None:
        """Keep the metrics of this process there from now on."""
        os.environ[_FOLDER] = str(self.path)  # where the library looks
        values.ValueClass = MultiProcessValue(lambda: self.worker)  # type: ignore[no-untyped-call]

    def forget_gauges(self) -> None:
        """Forget what this worker said of itself, once it is dead; what it counted stays."""
        mark_process_dead(self.worker, str(self.path))  # type: ignore[no-untyped-call]


class Metrics:
    """What an endpoint counts.

    Parameters
    ----------
    folder:
        Where several workers keep their metrics; None for a single process.
    """

    def __init__(self, folder: MetricsFolder | None = None) -> None:
        self._registry = CollectorRegistry()
        self._own: CollectorRegistry | None = self._registry
        self.worker = "1" if folder is None else str(folder.worker)
        if folder is not None:
            folder.enter()
            MultiProcessCollector(self._registry, str(folder.path))  # type: ignore[no-untyped-call]
            self._own = None
        self._requests = self._counter(
            "margincast_requests", "Requests answered.", "route", "method", "status"
        )
        self._latency = self._histogram(
            "margincast_request_seconds", "Time until the answer began.", _SECONDS, "route"
        )
        self._refused = self._counter(
            "margincast_refused",
            "Requests and connections that were refused before they were worked on, by why.",
            "reason",
        )
        self._decisions = self._counter(
            "margincast_decisions", "Decisions recorded, by what bound them.", "binding"
        )
        self._degraded = self._counter(
            "margincast_degraded_decisions",
            "Decisions recorded without the model, by why.",
            "reason",
        )
        self._add_ons = self._counter(
            "margincast_add_on_amount",
            "Sum of the add-ons of recorded decisions, in the settlement currency.",
        )
        self._deposits = self._counter(
            "margincast_deposit_amount",
            "Sum of the deposits that recorded decisions ask for, in the settlement currency.",
        )
        self._probability = self._histogram(
            "margincast_probability",
            "Probability of a margin call within the horizon in hours, of recorded decisions.",
            _PROBABILITIES,
            "horizon",
        )
        self._mark_age = self._histogram(
            "margincast_mark_age_seconds",
            "Age of the oldest mark that a recorded decision rests on.",
            _MARK_AGES,
        )
        self._stale_marks = self._counter(
            "margincast_stale_mark_decisions",
            "Decisions recorded on a mark without a fresh quote and without a fresh bar.",
        )
        self._batch_calls = self._histogram(
            "margincast_batch_calls",
            "Score calls that were decided and recorded together.",
            _CALLS,
        )
        self._queued = self._histogram(
            "margincast_queue_seconds",
            "Time of a score call in the queue, until its batch began.",
            _SECONDS,
        )
        self._stages = self._histogram(
            "margincast_stage_seconds",
            "Time of a batch of score calls in each stage.",
            _SECONDS,
            "stage",
        )
        self._appends = self._histogram(
            "margincast_ledger_append_seconds",
            "Time to record in the ledger, until it is on disk.",
            _SECONDS,
        )
        self._append_errors = self._counter(
            "margincast_ledger_append_errors", "Records that the database refused."
        )
        self._bars = self._counter(
            "margincast_bars", "Bars posted, by what became of them.", "status"
        )
        self._quotes = self._counter(
            "margincast_quotes", "Quotes posted, by what became of them.", "status"
        )
        self._updates = self._counter(
            "margincast_account_updates",
            "Updates of accounts of the live book, by what became of them.",
            "status",
        )
        self._shadow = self._counter(
            "margincast_shadow_accounts",
            "Accounts scored with the challenger, by what became of their scores.",
            "result",
        )
        self._dropped = self._counter(
            "margincast_log_lines_dropped", "Lines of the log that were lost: stderr was too slow."
        )
        self._pending = self.worker_gauge(
            "margincast_score_calls_pending",
            "Score calls that are accepted and not decided yet.",
        )
        self._connections = self.worker_gauge("margincast_connections", "Open connections.")
        self._pending_now: Callable[[], float] = lambda: 0.0
        self._connection_counts = ConnectionCounts()
        self._refusals_shown = Tally[str]()
        self._lock = threading.Lock()
        # Finding a series by its labels costs more than counting in it.
        self._answered: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[str, BatchHistogram] = {}
        self._staged: dict[str, BatchHistogram] = {
            stage: self._stages.labels(stage) for stage in ("decide", "commit", "encode")
        }
        self._horizons: dict[str, BatchHistogram] = {}
        # A series that begins with its first event hides that event from a rate.
        for counter, values_of in (
            (self._decisions, get_args(Binding)),
            (self._degraded, (*KINDS.values(), OTHER)),
            (self._refused, (*_REFUSALS, *get_args(ConnectionRefusal))),
            (self._shadow, get_args(ShadowResult)),
            (self._bars, get_args(BarStatus)),
            (self._quotes, get_args(QuoteStatus)),
            (self._updates, get_args(UpdateStatus)),
        ):
            for value in values_of:
                counter.labels(value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._own)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], *labels: str
    ) -> BatchHistogram:
        return BatchHistogram(name, text, labels, buckets=buckets, registry=self._own)

    def worker_gauge(self, name: str, text: str) -> Gauge:
        """A gauge of this worker, shown by all of them while it lives."""
        gauge = Gauge(
            name, text, ("worker",), multiprocess_mode="livemostrecent", registry=self._own
        )
        return gauge.labels(self.worker)

    def worker_counter(self, name: str, text: str) -> Counter:
        """A counter of this worker, shown by all of them."""
        return self._counter(name, text, "worker").labels(self.worker)

    def register(self, collector: Collector) -> None:
        """Show what a collector finds when the metrics are read."""
        self._registry.register(collector)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        answered = self._answered.get((route, method, status))
        if answered is None:
            answered = self._requests.labels(route, method, str(status))
            self._answered[route, method, status] = answered
        answered.inc()
        timed = self._timed.get(route)
        if timed is None:
            timed = self._timed[route] = self._latency.labels(route)
        timed.observe(seconds)

    def refused(self, kind: str) -> None:
        """Count a request that was refused, by the kind of its problem if it is a `Refusal`."""
        if kind in _REFUSALS:
            self._refused.labels(kind).inc()

    def decisions(self, decisions: Sequence[Decision]) -> None:
        """Count recorded decisions."""
        for binding, count in Tally(decision.binding for decision in decisions).items():
            self._decisions.labels(binding).inc(count)
        degraded = [decision.degraded for decision in decisions if decision.degraded is not None]
        for reason, count in Tally(map(kind_of_degradation, degraded)).items():
            self._degraded.labels(reason).inc(count)
        _add(self._add_ons, (decision.add_on for decision in decisions))
        _add(self._deposits, (decision.deposit_to_meet for decision in decisions))
        by_horizon: dict[str, list[float]] = {}
        for decision in decisions:
            for horizon, probability in (decision.probability or {}).items():
                by_horizon.setdefault(horizon, []).append(probability)
        for horizon, probabilities in by_horizon.items():
            shown = self._horizons.get(horizon)
            if shown is None:
                shown = self._horizons[horizon] = self._probability.labels(horizon)
            shown.observe_many(probabilities)
        ages, stale = [], 0
        for decision in decisions:
            if decision.marks:
                ages.append(max(mark.age_seconds or 0.0 for mark in decision.marks))
                stale += any(mark.stale for mark in decision.marks)
        self._mark_age.observe_many(ages)
        if stale:
            self._stale_marks.inc(stale)

    def watch_pending(self, pending: Callable[[], float]) -> None:
        """Show the number of score calls that are accepted and not decided yet."""
        self._pending_now = pending

    def watch_connections(self, counts: ConnectionCounts) -> None:
        """Show what a server counts of its connections."""
        self._connection_counts = counts

    def show_now(self) -> None:
        """Show calls that wait and connections as they are now."""
        self._pending.set(self._pending_now())
        counts = self._connection_counts
        self._connections.set(counts.open)
        with self._lock:
            for reason, count in list(counts.refused.items()):
                self._refused.labels(reason).inc(count - self._refusals_shown[reason])
                self._refusals_shown[reason] = count

    def batch(self, calls: int, waited: Sequence[float]) -> None:
        """Count a batch of score calls as it begins, each with its seconds in the queue."""
        self._batch_calls.observe(calls)
        self._queued.observe_many(waited)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Count the time of a batch in a stage."""
        self._staged[stage].observe(seconds)

    def appended(self, seconds: float, failed: bool) -> None:
        """Count an attempt to record in the ledger."""
        if failed:
            self._append_errors.inc()
        else:
            self._appends.observe(seconds)

    def account_updates(self, results: Sequence[UpdateResult]) -> None:
        """Count updates of accounts."""
        for status, count in Tally(result.status for result in results).items():
            self._updates.labels(status).inc(count)

    def shadow(self, result: str, accounts: int) -> None:
        """Count accounts that the challenger scored."""
        self._shadow.labels(result).inc(accounts)

    def shadow_counts(self) -> dict[str, int]:
        """Accounts that the challenger scored in this process, by what became of their scores."""
        samples = (sample for metric in self._shadow.collect() for sample in metric.samples)
        return {
            sample.labels["result"]: int(sample.value)
            for sample in samples
            if sample.name.endswith("_total")
        }

    def bars(self, results: Iterable[BarResult]) -> None:
        """Count posted bars."""
        for status, count in Tally(result.status for result in results).items():
            self._bars.labels(status).inc(count)

    def quotes(self, results: Iterable[QuoteResult]) -> None:
        """Count posted quotes."""
        for status, count in Tally(result.status for result in results).items():
            self._quotes.labels(status).inc(count)

    def dropped_lines(self, count: int) -> None:
        """Count lines of the log that were lost."""
        self._dropped.inc(count)

    def exposition(self) -> bytes:
        """Everything in Prometheus text form."""
        self.show_now()
        return generate_latest(self._registry)


def _add(counter: Counter, amounts: Iterable[float]) -> None:
    """Add finite amounts above 0."""
    total = sum(amount for amount in amounts if 0.0 < amount < inf)
    if total < inf:
        counter.inc(total)
