"""``margincast serve`` as a process that can be stopped, killed and started again."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.http.ports import free_port

MARGINCAST = str(Path(sys.executable).parent / "margincast")
WAIT_SECONDS = 300.0
"""What takes longer hangs; this is no measure of speed, as machines are shared."""
_POLL_SECONDS = 0.02


class Service:
    """A running endpoint on a port that stays the same over restarts.

    Parameters
    ----------
    folder:
        Of ``margincast.toml``; the log ``serve-<port>.err`` goes there.
    options:
        Of ``margincast serve``.
    variables:
        Environment beside the surrounding one, such as ``MARGINCAST__LEDGER__URL``.
    wrapper:
        A command that starts the process with less rights or another clock.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        variables: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._arguments = [*wrapper, MARGINCAST, "serve", "--port", str(self.port), *options]
        kept = {n: text for n, text in os.environ.items() if not n.startswith("MARGINCAST")}
        self._environment = kept | {"OMP_WAIT_POLICY": "PASSIVE"} | dict(variables or {})
        self._log = folder / f"serve-{self.port}.err"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._arguments,
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def log(self) -> str:
        """What it wrote to standard error over all its starts."""
        return self._log.read_text("utf-8", errors="replace")

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds while the process runs.

        Raises
        ------
        RuntimeError
            It ended, or it took longer than `WAIT_SECONDS`.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{what}: not within {WAIT_SECONDS:g} s; the log ends with "
                    f"{self.log()[-2_000:]}"
                )
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise RuntimeError where it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(
                f"the endpoint ended with {self.process.returncode}: {self.log()[-2_000:]}"
            )

    def wait(self) -> Service:
        """Until it is ready."""
        self.wait_for(lambda: self.status("/health/ready") == 200, "the endpoint is ready")
        return self

    def get(self, path: str, seconds: float = 10.0) -> tuple[int, bytes]:
        """Status and body; status 0 without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                return 0, b""

    def status(self, path: str, seconds: float = 10.0) -> int:
        """Status of a GET; 0 without an answer."""
        return self.get(path, seconds)[0]

    def failure(self, path: str, seconds: float) -> str:
        """Why a GET is not answered 200: ``refused`` before a connection was made, ``reset`` after,
        ``timeout``, or its status; empty where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        way = "refused"
        with contextlib.closing(connection):
            try:
                connection.connect()
                way = "reset"
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
            except TimeoutError:
                return "timeout"
            except (OSError, http.client.HTTPException):
                return way
        return "" if answer.status == 200 else str(answer.status)

    def ready_workers(self) -> int:
        """How many workers say that they are ready."""
        shown = self.get("/metrics")[1].decode().splitlines()
        lines = [line for line in shown if line.startswith("margincast_ready{")]
        return sum(line.endswith(" 1.0") for line in lines)

    def workers(self) -> list[int]:
        """Process ids of the workers under a supervisor."""
        return [pid for pid in children_of(self.process.pid) if "spawn_main" in _command(pid)]

    def pids(self) -> list[int]:
        """The process and its workers."""
        return [self.process.pid, *self.workers()]

    def kill(self) -> None:
        """``kill -9``."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)

    def restart(self) -> None:
        """Start it again after it ended, without waiting until it is ready."""
        self.process = self._start()

    def limit_file_size(self, size: int | None) -> None:
        """From now on no file may grow beyond `size` bytes: a full disk. None: it has space."""
        limit = resource.RLIM_INFINITY if size is None else size
        for pid in self.pids():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))

    def resident_bytes(self) -> int:
        """Resident memory of the process and its workers."""
        page = os.sysconf("SC_PAGE_SIZE")
        return page * sum(int(_read(pid, "statm").split()[1]) for pid in self.pids())

    def descriptors(self) -> int:
        """Open descriptors of the process and its workers."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())


def children_of(pid: int) -> list[int]:
    """Process ids of the children."""
    return [int(child) for child in _read(pid, f"task/{pid}/children").split()]


def _command(pid: int) -> str:
    try:
        return _read(pid, "cmdline")
    except OSError:
        return ""


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text("utf-8")
