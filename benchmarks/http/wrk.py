"""The load tool: wrk with a script that sends a different account in each request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("score.lua")
MISSING = (
    "bench-http needs the load tool wrk and did not find it; install the package wrk "
    "(Debian and Ubuntu: apt-get install wrk, macOS: brew install wrk)"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk reports of one run.

    Attributes
    ----------
    requests:
        Answers received.
    seconds:
        From the first request to the last answer.
    not_200:
        Answers with a status of 400 or more.
    broken, timeouts:
        Connections that failed, and answers that did not come.
    p50_ms, p90_ms, p99_ms, max_ms:
        Percentiles of the time from a request to its answer.
    """

    requests: int
    seconds: float
    not_200: int
    broken: int
    timeouts: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @property
    def rps(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go.

    Attributes
    ----------
    url, path:
        Of the server, and of the call.
    bodies:
        File with one body a line.
    headers:
        More header lines, ``Name: value``.
    """

    url: str
    path: str
    bodies: Path
    headers: Sequence[str] = ()


def find_wrk() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which("wrk")


def version() -> str:
    """Of the program, as it says."""
    tool = _tool()
    printed = subprocess.run([tool, "-v"], capture_output=True, text=True, check=False)
    return (printed.stdout + printed.stderr).partition("[")[0].strip()


def run(target: Target, connections: int, seconds: int, core: int) -> Load:
    """Send requests for so many whole seconds over kept-alive connections, in a closed loop.

    Raises
    ------
    RuntimeError
        wrk failed.
    SystemExit
        It is not installed.
    """
    arguments = [
        *(_tool(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"),
        *("-s", str(SCRIPT), target.url, "--", str(target.bodies), target.path, *target.headers),
    ]
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, [core]),
    )
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {(done.stdout + done.stderr)[-2000:]}")
    return parse(done.stdout)


def parse(printed: str) -> Load:
    """The line of JSON that the script prints at its end.

    Raises
    ------
    RuntimeError
        There is none.
    """
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            return Load(**json.loads(line))
    raise RuntimeError(f"wrk printed no result of {SCRIPT.name}: {printed[-2000:]!r}")


def _tool() -> str:
    tool = find_wrk()
    if tool is None:
        raise SystemExit(MISSING)
    return tool
