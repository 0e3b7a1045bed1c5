"""The thread that reads the state of this process every few seconds and shows it as metrics.

Reading the metrics waits for nothing: what needs the database or a lock is found here.
"""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ledger.store import Ledger
from market.core.errors import MargincastError
from monitoring.background_thread import BackgroundThread
from monitoring.follower import Follower
from serving.schemas.read_messages import Readiness
from serving.telemetry.metrics.facts import StoredFacts
from serving.telemetry.metrics.market_facts import MarketFactsReader
from serving.telemetry.metrics.metrics import Metrics
from serving.telemetry.metrics.stored_facts import read_stored_facts

LOOK_SECONDS = 5.0
"""Time between looks at the process."""

STORED_SECONDS = 30.0
"""Time between looks at disk and ledger."""

STOP_SECONDS = 2.0

_LOG = logging.getLogger("margincast.serving")


class Watched(Protocol):
    """What is looked at."""

    @property
    def follower(self) -> Follower:
        """Follows the market chain."""

    @property
    def facts(self) -> MarketFactsReader:
        """Reads what metrics say of market and model."""

    def readiness(self) -> Readiness:
        """Whether decisions can be made."""


class ProcessWatch(BackgroundThread):
    """Looks at a process in a thread of its own, from entering the block to leaving it.

    Parameters
    ----------
    watched:
        The endpoint.
    metrics:
        Shows what is found.
    ledger:
        The ledger.
    folders:
        Folders whose disk counts.
    """

    def __init__(
        self, watched: Watched, metrics: Metrics, ledger: Ledger, folders: Mapping[str, Path]
    ) -> None:
        super().__init__("watch-process", STOP_SECONDS)
        self._watched, self._metrics, self._ledger = watched, metrics, ledger
        self._folders = folders
        self.stored = StoredFacts()
        """What the last look at disk and ledger found."""
        gauge = metrics.worker_gauge
        self._ready = gauge("margincast_ready", "1 while decisions can be made and recorded.")
        self._warnings = gauge(
            "margincast_readiness_warnings",
            "Number of readiness warnings now, such as a stale market or a missing model.",
        )
        self._look_age = gauge(
            "margincast_follower_look_age_seconds", "Time since the market chain was looked at."
        )
        self._lag = gauge(
            "margincast_follower_lag_records", "Records of the market chain not applied yet."
        )
        self._looked = gauge(
            "margincast_watched_seconds",
            "When these figures of the worker were taken, as seconds since 1970.",
        )
        self._memory = gauge("margincast_memory_bytes", "Resident memory of the worker.")
        self._files = gauge("margincast_open_files", "Open file descriptors of the worker.")
        self._most_files = gauge(
            "margincast_max_files", "Most file descriptors that the worker may open."
        )
        gauge("margincast_start_seconds", "When the worker started, as seconds since 1970.").set(
            time.time()
        )
        self._cpu = metrics.worker_counter(
            "margincast_cpu_seconds", "Processor time of the worker."
        )
        self._cpu_before = 0.0
        self._stored_at = float("-inf")
        self._failed = False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
                self._failed = False
            except MargincastError as error:
                # Readiness and the errors of appending say the same louder.
                if not self._failed:
                    _LOG.warning("the state of the endpoint is not in the metrics: %s", error)
                self._failed = True
            except Exception:  # noqa: BLE001 - the thread would end in silence
                if not self._failed:
                    _LOG.exception("the state of the endpoint is not in the metrics")
                self._failed = True
            self._stop.wait(LOOK_SECONDS)

    def look(self) -> None:
        """Look once.

        Raises
        ------
        LedgerError
            The ledger cannot be read; what needs no ledger is shown.
        """
        self._look_at_process()
        readiness = self._watched.readiness()
        self._ready.set(readiness.status != "unavailable")
        self._warnings.set(len(readiness.reasons))
        self._watched.facts.read()  # notes when a model was loaded
        self._look_age.set(self._watched.follower.look_age())
        self._lag.set(self._watched.follower.lag())
        now = time.monotonic()
        if now - self._stored_at >= STORED_SECONDS:
            self.stored = read_stored_facts(self._ledger, self._folders)
            self._stored_at = now
        self._looked.set(time.time())

    def _look_at_process(self) -> None:
        self._metrics.show_now()
        cpu = time.process_time()
        self._cpu.inc(cpu - self._cpu_before)
        self._cpu_before = cpu
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_files.set(most)
        try:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
            self._memory.set(pages * resource.getpagesize())
            self._files.set(len(list(Path("/proc/self/fd").iterdir())))
        except OSError:  # a system without /proc
            self._memory.set(float("nan"))
            self._files.set(float("nan"))
