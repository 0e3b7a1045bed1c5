"""Worker processes behind one port: start, supervise and restart them.

Each worker has a socket of its own with SO_REUSEPORT: the kernel spreads connections over the
sockets that listen, by a hash of their addresses. One listening socket for all would let the worker
that wakes first take every connection that waits. A worker listens only once it is ready, so none
gets a connection before it can answer. The supervisor holds the sockets too, and lends that of a
worker that is away to the others: a worker's death ends no connection but those that it had
accepted (`serving.http.connections.lent_sockets`).
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from market.core.errors import ConfigError, MargincastError, WorkerError
from pipelines.config.config import Config
from pipelines.config.sections import ServingConfig
from pipelines.jobs.telemetry import metrics_folder
from serving.http.connections.lent_sockets import LEAVES, LentSockets, lend, take_back
from serving.telemetry.metrics.metrics import MetricsFolder

MOST_RESTARTS = 5
RESTART_SECONDS = 60.0
"""More than `MOST_RESTARTS` restarts within `RESTART_SECONDS` end the service: a restart does not
cure the cause."""

RESTART_PAUSE = 0.5
"""Shortest time between the last start of a worker and a restart."""

END_SECONDS = 15.0
"""Time beyond ``[serving] stop_seconds`` after which workers that were stopped are killed."""

LAST_SECONDS = 5.0
"""Time after which a worker that announced its end is killed."""

_LOOK_SECONDS = 0.25

_LOG = logging.getLogger("margincast.serve")


class WorkerPlace(NamedTuple):
    """Where a worker writes, the ledger's chain of its decisions and its metrics, and the sockets
    that it serves for others."""

    chain: str
    metrics: MetricsFolder
    lent: LentSockets


Answer = Callable[[Config, socket.socket, WorkerPlace, Callable[[], None]], None]
"""Runs an endpoint: configuration, bound socket, where it writes, what to call once it listens."""


def decision_chain(serving: ServingConfig, worker: int | None = None) -> str:
    """The ledger's chain for the decisions of one writer.

    ``serving`` of a single process and ``serving-<i>`` of worker i = 1, 2, …; with ``[serving]
    replica`` its name stands between: ``serving-<replica>`` and ``serving-<replica>-<i>``.
    """
    parts = ["serving", serving.replica, "" if worker is None else str(worker)]
    return "-".join(part for part in parts if part)


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket; `shared` with other workers by SO_REUSEPORT.

    Raises
    ------
    ConfigError
        The address cannot be bound, or cannot be shared on this system.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named asyncio sets TCP_NODELAY; without it every response on a
        # kept-alive connection waits 40 ms for the acknowledgement of its first part.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind((host, port))
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"[serving] {host} port {port} cannot be listened on ({error.strerror}); stop what "
            "uses it or give another port"
        ) from error
    return bound


@dataclass(slots=True)
class _Worker:
    """A worker process: its number, the pipe on which it says that it listens or why not, and the
    workers from whose sockets it accepts as well."""

    number: int
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    accepts_for: set[int] = field(default_factory=set)


def serve_with_workers(
    config: Config, answer: Answer, on_ready: Callable[[], object] = lambda: None
) -> None:
    """Run ``[serving] workers`` processes until a signal stops them all.

    Parameters
    ----------
    config:
        The configuration; every worker gets it as it is.
    answer:
        What a worker runs.
    on_ready:
        Called once all of them listen.

    Raises
    ------
    ConfigError
        The address cannot be bound.
    WorkerError
        A worker could not start, or workers died too often.
    """
    serving = config.serving
    # Without sharing first: another service on this port would otherwise get part of the calls.
    listen(serving.host, serving.port).close()
    with stop_signals() as stop, metrics_folder() as folder:
        supervisor = _Supervisor(config, answer, folder)
        try:
            supervisor.run(stop, on_ready)
        finally:
            supervisor.end()


class _Supervisor:
    """Starts the workers and keeps them running."""

    def __init__(self, config: Config, answer: Answer, folder: Path) -> None:
        self._config, self._answer, self._folder = config, answer, folder
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, _Worker] = {}
        self._sockets = {n: self._bind() for n in range(1, config.serving.workers + 1)}
        self._restarts: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._started = 0.0

    def run(self, stop: threading.Event, on_ready: Callable[[], object]) -> None:
        """Until `stop` is set; `on_ready` is called once all workers listen."""
        serving = self._config.serving
        for number in self._sockets:
            self._start(number)
        announced = False
        while not stop.is_set():
            handles: list[Connection | int] = [w.process.sentinel for w in self._workers.values()]
            handles += [worker.pipe for worker in self._workers.values()]
            connection.wait(handles, _LOOK_SECONDS)
            for worker in list(self._workers.values()):
                self._look_after(worker, announced, stop)
            if not announced and all(worker.ready for worker in self._workers.values()):
                announced = True
                scheme = "http" if serving.tls_cert is None else "https"
                _LOG.info(
                    "%d workers listen on %s://%s:%d (/docs)",
                    *(serving.workers, scheme, serving.host, serving.port),
                )
                on_ready()

    def end(self) -> None:
        """Stop all workers; those that do not stop in time are killed."""
        for bound in self._sockets.values():
            bound.close()  # each worker closes its own in good order
        for worker in self._workers.values():
            worker.process.terminate()
        seconds = self._config.serving.stop_seconds + END_SECONDS
        deadline = time.monotonic() + seconds
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                _LOG.error("worker %d did not stop within %g s: killed", worker.number, seconds)
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _bind(self) -> socket.socket:
        return listen(self._config.serving.host, self._config.serving.port, shared=True)

    def _start(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        metrics = MetricsFolder(self._folder, number)
        process = self._context.Process(
            target=_work,
            args=(self._config, self._answer, metrics, self._sockets[number], theirs),
            name=f"worker-{number}",
        )
        process.start()
        theirs.close()
        self._started = time.monotonic()
        self._workers[number] = _Worker(number, process, ours)

    def _hear(self, worker: _Worker) -> str:
        """Why a worker could not start; empty if it did not say so."""
        if not worker.pipe.poll():
            return ""
        said = b""
        with suppress(EOFError, OSError):  # its end says the rest
            said = worker.pipe.recv_bytes()
            worker.ready = not said
            if said == LEAVES:
                # It closes its socket once all that came is accepted; its successor gets another.
                self._sockets[worker.number].close()
                self._sockets[worker.number] = self._bind()
            self._lend()
        return "" if said == LEAVES else said.decode()

    def _lend(self) -> None:
        """Have the workers that listen accept for those that do not."""
        away = {number for number, worker in self._workers.items() if not worker.ready}
        for worker in self._workers.values():
            pid = worker.process.pid
            if not worker.ready or pid is None:
                continue
            with suppress(OSError):  # it ended, and is looked after next
                for number in away - worker.accepts_for:
                    lend(worker.pipe, number, self._sockets[number], pid)
                for number in worker.accepts_for - away:
                    take_back(worker.pipe, number)
            worker.accepts_for = set(away)

    def _look_after(self, worker: _Worker, announced: bool, stop: threading.Event) -> None:
        """Restart a worker that ended; once all have to stop it may end for any reason."""
        why = self._hear(worker)
        if (worker.process.is_alive() and not why) or stop.is_set():
            return
        worker.process.join(LAST_SECONDS)  # one that said why may still hang at its end
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(LAST_SECONDS)
        code = worker.process.exitcode
        cause = f"exit code {code}" + (f": {why}" if why else "")
        if not announced and not worker.ready:
            raise WorkerError(f"worker {worker.number} could not start ({cause})")
        now = time.monotonic()
        if len(self._restarts) == MOST_RESTARTS and now - self._restarts[0] < RESTART_SECONDS:
            raise WorkerError(
                f"worker {worker.number} ended ({cause}), and {MOST_RESTARTS} workers were "
                f"restarted within {RESTART_SECONDS:g} s: the service stops; the log has the causes"
            )
        self._restarts.append(now)
        worker.ready = False
        self._lend()
        _LOG.error("worker %d ended (%s); it is restarted", worker.number, cause)
        MetricsFolder(self._folder, worker.number).forget_gauges()
        if stop.wait(max(0.0, self._started + RESTART_PAUSE - now)):
            return
        worker.pipe.close()
        self._start(worker.number)


def _work(
    config: Config,
    answer: Answer,
    metrics: MetricsFolder,
    listener: socket.socket,
    pipe: Connection,
) -> None:
    """The body of a worker process."""
    gc.disable()  # until everything is restored, as in a single process
    end_with_parent()
    try:
        with listener:
            chain = decision_chain(config.serving, metrics.worker)
            place = WorkerPlace(chain, metrics, LentSockets(pipe))
            answer(config, listener, place, lambda: pipe.send_bytes(b""))
    except KeyboardInterrupt:  # while it starts; the parent stops as well
        sys.exit(1)
    except MargincastError as error:
        pipe.send_bytes(str(error).encode())
        sys.exit(1)


def end_with_parent() -> None:
    """End this process in good order when its supervisor is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-supervisor", daemon=True).start()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        stop.set()

    kept = {which: signal.signal(which, on_signal) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for which, handler in kept.items():
            signal.signal(which, handler)
