"""A server as a process of its own, pinned to cores, with what it costs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http.ports import free_port

_POLL_SECONDS = 0.005
_STOP_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Command:
    """How a server is started.

    Attributes
    ----------
    arguments:
        Program and arguments.
    environment:
        Beside the surrounding one.
    folder:
        Working directory; what it prints goes to a file there.
    ready:
        Path that answers 200 once it is ready.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ready: str


class Server:
    """A running server: a process with its descendants on given cores.

    Parameters
    ----------
    command:
        How it is started.
    port:
        Where it listens.
    cores:
        Cores that it may use.
    """

    def __init__(self, command: Command, port: int, cores: Sequence[int]) -> None:
        self.port = port
        self._command = command
        self._log = command.folder / f"{Path(command.arguments[0]).name}-{port}.log"
        self.started = time.perf_counter()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command.arguments,
                cwd=command.folder,
                env={**_surrounding(), **command.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self, seconds: float, path: str | None = None) -> float:
        """Wait until a path answers 200, by default the one that says ready.

        Returns
        -------
        Seconds since the process was started.

        Raises
        ------
        RuntimeError
            It ended, or did not answer in time.
        """
        deadline = self.started + seconds
        target = self.url + (self._command.ready if path is None else path)
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, urllib.error.URLError):
                if urllib.request.urlopen(target, timeout=seconds).status == 200:  # noqa: S310 - ours
                    return time.perf_counter() - self.started
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(
            f"{' '.join(self._command.arguments)} did not answer {target} within {seconds:g} s "
            f"(exit code {self.process.poll()}); it printed:\n{self.printed()[-2000:]}"
        )

    def printed(self) -> str:
        """What it has printed."""
        return self._log.read_text("utf-8", errors="replace")

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        return sum(sum(map(int, _stat(pid)[11:13])) for pid in self._pids()) / _TICKS

    def resident_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(int(_stat(pid)[21]) for pid in self._pids()) * _PAGE

    def pause(self) -> None:
        """Stop all its processes where they are, so that they cost nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it: by request, and by force what is left after a while."""
        pids = self._pids()
        self.resume()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """The process and its descendants, in whatever session they are."""
        children = defaultdict(list)
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    children[int(_stat(int(folder.name))[1])].append(int(folder.name))
        found = [self.process.pid]
        for pid in found:  # grows while it is walked
            found += children[pid]
        return found


@contextlib.contextmanager
def running(command: Command, cores: Sequence[int], port: int | None = None) -> Iterator[Server]:
    """A server that is stopped at the end. `command` may name the port as ``{port}``."""
    chosen = free_port() if port is None else port
    arguments = [argument.replace("{port}", str(chosen)) for argument in command.arguments]
    environment = {
        name: value.replace("{port}", str(chosen)) for name, value in command.environment.items()
    }
    server = Server(Command(arguments, environment, command.folder, command.ready), chosen, cores)
    try:
        yield server
    finally:
        server.stop()


def choose_cores() -> tuple[int, int]:
    """The core of the server and the core of the load.

    Raises
    ------
    SystemExit
        There is one core only.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("bench-http needs two cores: one for the server, one for the load tool")
    return cores[0], cores[-1]


def _surrounding() -> dict[str, str]:
    """The environment without settings of Margincast."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MARGINCAST")}
    return kept | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` after the name: state, parent, group, session, …"""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
