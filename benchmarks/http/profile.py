"""``python -m benchmarks.http.profile --out FILE``: where the endpoint's time goes, as text.

py-spy samples the server from outside while wrk loads it; only the thread that holds the
interpreter's lock counts, so waits are left out, and so is what runs without the lock (ONNX
Runtime, SQLite). A summary is small enough to keep beside the code: the share of the samples in
which each function runs itself, and in which it or what it calls runs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http import wrk
from benchmarks.http.contenders import (
    MARGINCAST,
    PEERS,
    READY_SECONDS,
    serve_command,
    write_lines,
)
from benchmarks.http.process import choose_cores, running
from benchmarks.http.world import make_world, score_bodies
from benchmarks.measure import machine

CONNECTIONS = 8
_SECONDS, _RATE = 15, 200
_WARM_UP_SECONDS = 3
_LINES = 45
_LINE_NUMBER = re.compile(r":\d+\)$")


@dataclass(frozen=True, slots=True)
class Shares:
    """Samples by function.

    Attributes
    ----------
    samples:
        In all.
    own, total:
        Samples in which a function runs itself, and in which it is anywhere on the stack.
    """

    samples: int
    own: Counter[str]
    total: Counter[str]


def main() -> None:
    """Parse, load, sample, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http.profile", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="text file to write")
    parser.add_argument("--seconds", type=int, default=_SECONDS, help="how long is sampled")
    options = parser.parse_args()
    stacks, load = sample(options.seconds)
    text = render(summarise(stacks), load)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(text)


def sample(seconds: int) -> tuple[list[str], wrk.Load]:
    """Collapsed stacks of a server under load, and what wrk says of the load."""
    server_core, load_core = choose_cores()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        world = make_world(Path(folder).resolve())
        bodies = write_lines(world.folder / "score.txt", score_bodies(world))
        command = serve_command(world, world.folder / "profile.db")
        with running(command, [server_core]) as server:
            server.wait(READY_SECONDS)
            target = wrk.Target(server.url, "/v1/score", bodies)
            wrk.run(target, CONNECTIONS, _WARM_UP_SECONDS, load_core)
            loads: list[wrk.Load] = []
            thread = threading.Thread(
                target=lambda: loads.append(wrk.run(target, CONNECTIONS, seconds + 2, load_core))
            )
            thread.start()
            raw = world.folder / "stacks.txt"
            subprocess.run(
                [
                    *(str(PEERS / "bin" / "py-spy"), "record", "--pid", str(server.process.pid)),
                    *("--duration", str(seconds), "--rate", str(_RATE), "--gil", "--function"),
                    *("--format", "raw", "--output", str(raw)),
                ],
                check=True,
                capture_output=True,
            )
            thread.join()
            return raw.read_text("utf-8").splitlines(), loads[0]


def summarise(stacks: Sequence[str]) -> Shares:
    """Count functions in collapsed stacks: frames from the outermost in, ``;`` between, a count."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = [_LINE_NUMBER.sub(")", frame) for frame in stack.split(";")]
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return Shares(samples, own, total)


def render(shares: Shares, load: wrk.Load) -> str:
    """The summary as text."""
    about = machine()
    lines = [
        f"{MARGINCAST}: one account a call, {CONNECTIONS} connections, server on one core",
        f"{about['processor']}, Python {about['python']}; {shares.samples} samples by py-spy while "
        f"wrk had {load.rps:.0f} answers a second, p50 {load.p50_ms:.2f} ms",
    ]
    for title, counts in (
        ("function and all that it calls", shares.total),
        ("function itself", shares.own),
    ):
        lines += ["", f"% of samples  {title}"]
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_LINES]:
            lines.append(f"{100 * count / shares.samples:>12.1f}  {name}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
