"""Memory of the endpoint over many decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.http import wrk
from benchmarks.http.contenders import READY_SECONDS, count_decisions, serve_command, write_lines
from benchmarks.http.process import running
from benchmarks.http.world import World, score_bodies

CONNECTIONS = 8
_SAMPLES = 20
_SETTLED = 0.25
"""The slope is taken over what follows this share of the run: caches fill before."""


def measure(
    world: World, server_core: int, load_core: int, decisions: int, log: Callable[[str], None]
) -> dict[str, float]:
    """Resident memory while so many decisions are made, about `_SAMPLES` times along the way.

    Returns
    -------
    Decisions on record, memory at start and end in 10^6 bytes, and the slope in bytes a decision.
    """
    ledger = world.folder / "memory.db"
    bodies = write_lines(world.folder / "memory.txt", score_bodies(world))
    with running(serve_command(world, ledger), [server_core]) as server:
        server.wait(READY_SECONDS)
        target = wrk.Target(server.url, "/v1/score", bodies)
        first = wrk.run(target, CONNECTIONS, 2, load_core)
        seconds = max(1, round(decisions / _SAMPLES / first.rps))
        samples = [(count_decisions(ledger), server.resident_bytes())]
        while samples[-1][0] < decisions:
            wrk.run(target, CONNECTIONS, seconds, load_core)
            samples.append((count_decisions(ledger), server.resident_bytes()))
            made, size = samples[-1]
            log(f"  {made} decisions, {size / 1e6:.1f} MB")
    return {
        "decisions": samples[-1][0],
        "start_megabytes": samples[0][1] / 1e6,
        "end_megabytes": samples[-1][1] / 1e6,
        "bytes_per_decision": slope(samples),
        "ledger_bytes_per_decision": _size(ledger) / samples[-1][0],
    }


def _size(ledger: Path) -> int:
    """Bytes of a database and of its write-ahead log."""
    return sum(path.stat().st_size for path in ledger.parent.glob(f"{ledger.name}*"))


def slope(samples: Sequence[tuple[int, int]]) -> float:
    """Bytes a decision by least squares, after the first part of the run; NaN from one sample."""
    settled = [s for s in samples if s[0] >= _SETTLED * samples[-1][0]]
    if len(settled) < 2:
        return float("nan")
    made, size = np.array(settled, dtype=np.float64).T
    return float(np.polyfit(made, size, 1)[0])
