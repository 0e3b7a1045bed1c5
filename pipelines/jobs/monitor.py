"""Run the monitor of the live book: by its verb, or as a child process of the endpoint."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from types import FrameType

from enforcement.record.live_enforcement import LiveEnforcement
from ledger.store import Ledger
from market.core.errors import MargincastError
from monitoring.book.account_files import AccountFileFeed
from monitoring.book.account_store import AccountStore
from monitoring.champion import ChampionWatch
from monitoring.evaluation.monitor import BookMonitor, MonitorInputs
from monitoring.evaluation.passes.second_core import SecondCore
from monitoring.evaluation.record.evaluation_record import DECISION_CHAIN
from monitoring.evaluation.record.evaluation_state import evaluated_market
from monitoring.evaluation.triggers import TriggerRules
from monitoring.ledger_writer import LedgerWriter
from monitoring.rules_in_force import RulesInForce
from monitoring.shared_market import SharedMarket
from monitoring.struct_types import prepare_struct_types
from pipelines.config.config import Config
from pipelines.data.loaders import read_rule_history
from pipelines.delivery.configured_sinks import delivering, subscriptions_of
from pipelines.jobs.serve import live_market
from pipelines.jobs.telemetry import start_telemetry
from pipelines.jobs.workers import end_with_parent, stop_signals

RESTART_SECONDS = (1.0, 30.0)
"""Time until a monitor that ended is started again: at first, and at most."""

STEADY_SECONDS = 60.0
"""A monitor that ran for so long is started again after the first of `RESTART_SECONDS`."""

END_SECONDS = 15.0
"""Time after which a monitor that was stopped is killed."""

_LOG = logging.getLogger("margincast.monitor")


def monitor(config: Config) -> None:
    """Evaluate the live book until a signal stops it.

    Raises
    ------
    MargincastError
        Bars, rules or ledger cannot be used at the start; later it is logged and tried again.
    """
    with stop_signals() as stop:
        start_telemetry(config)
        _evaluate(config, stop)


def _evaluate(config: Config, stop: threading.Event) -> None:
    prepare_struct_types()
    serving = config.serving
    with Ledger(config.ledger.url, chain=DECISION_CHAIN) as ledger:
        history, live = read_rule_history(config), live_market(config, ledger)
        rules = RulesInForce(history, live, serving.clock)
        market = SharedMarket(live, ledger, LedgerWriter(ledger), rules.cash_assets())
        # Enforcement misses no step: the monitor goes on from the market of its newest evaluation.
        until = evaluated_market(ledger) if config.enforcement.enabled else None
        market.recover(time.time_ns() if serving.clock == "wall" else None, until)
        settings, files = config.monitoring, config.monitoring.accounts
        inputs = MonitorInputs(
            ledger,
            market,
            rules,
            ChampionWatch(serving.bundles, rules.targets),
            TriggerRules(
                settings.mark_threshold, settings.distance_threshold, settings.timer_seconds
            ),
            serving.clock,
            config.market.mark_max_age_ns,
            SecondCore(serving.bundles) if (os.cpu_count() or 1) > 1 else None,
            None if files is None else AccountFileFeed(AccountStore(ledger), files),
            LiveEnforcement(ledger, subscriptions_of(config.enforcement))
            if config.enforcement.enabled
            else None,
        )
        gc.freeze()  # later collections skip what the start made
        gc.enable()
        watch = BookMonitor(inputs)
        with delivering(config, ledger, lambda: watch.leads):
            watch.run(stop)


@contextmanager
def monitor_child(config: Config) -> Iterator[Callable[[], None]]:
    """Keep a monitor running beside an endpoint, where ``[monitoring] enabled`` says so.

    One that ends is started again; while it is away another one on the same ledger takes over.

    Yields
    ------
    Starts it: to be called once the endpoint answers, so that its start is not slowed down.
    """
    child = _MonitorChild(config)

    def start() -> None:
        if config.monitoring.enabled:
            child.start()

    try:
        yield start
    finally:
        if child.is_alive():
            child.end()


class _MonitorChild(threading.Thread):
    """A thread that starts the monitor's process, and starts it again."""

    def __init__(self, config: Config) -> None:
        super().__init__(name="supervise-monitor", daemon=True)
        self._config = config
        self._ended = threading.Event()
        self._process: SpawnProcess | None = None

    def run(self) -> None:
        """Until `end` is called."""
        context = multiprocessing.get_context("spawn")
        pause = RESTART_SECONDS[0]
        while not self._ended.is_set():
            process = context.Process(target=_child, args=(self._config,), name="monitor")
            process.start()
            self._process, started = process, time.monotonic()
            while process.is_alive() and not self._ended.is_set():
                process.join(0.25)
            if self._ended.is_set():
                return
            steady = time.monotonic() - started >= STEADY_SECONDS
            pause = RESTART_SECONDS[0] if steady else min(2.0 * pause, RESTART_SECONDS[1])
            _LOG.error(
                "the monitor ended (exit code %s); it is started again in %g s",
                *(process.exitcode, pause),
            )
            self._ended.wait(pause)

    def end(self) -> None:
        """Stop the monitor; one that does not stop in time is killed."""
        self._ended.set()
        self.join()
        process = self._process
        if process is None:
            return
        process.terminate()
        process.join(END_SECONDS)
        if process.is_alive():
            _LOG.error("the monitor did not stop within %g s: killed", END_SECONDS)
            process.kill()
            process.join()


def _child(config: Config) -> None:
    """The body of the monitor's process."""
    gc.disable()  # until everything is restored
    stop = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        stop.set()

    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, on_signal)
    end_with_parent()
    telemetry = start_telemetry(config)
    try:
        _evaluate(config, stop)
    except MargincastError as error:
        _LOG.error("the monitor cannot start: %s", error)
        raise SystemExit(1) from None
    finally:
        if telemetry.writer is not None:
            telemetry.writer.flush()
