"""From the start of the process to ready, and the first decision after it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.http.contenders import READY_SECONDS, post, serve_command
from benchmarks.http.process import running
from benchmarks.http.world import World
from models.bundle.pointer import CHAMPION


def measure(world: World, core: int, repeats: int) -> dict[str, dict[str, float]]:
    """Starts with kept kernels, with and without the saved market state, and with no kernels kept.

    Returns
    -------
    By case: seconds until ``/health/live`` and until ``/health/ready`` answer 200, and the
    milliseconds of the first and the second score after that. Medians, but for the case without
    kernels, which is run once.
    """
    plain = _without_state(world)
    return {
        "warm": _median([_start(world, core) for _ in range(repeats)]),
        "warm_without_saved_state": _median(
            [_start(world, core, bundles=str(plain)) for _ in range(repeats)]
        ),
        "empty_kernel_cache": _start(world, core, kernels=world.folder / "no-kernels"),
    }


def _start(
    world: World, core: int, *, bundles: str = "", kernels: Path | None = None
) -> dict[str, float]:
    ledger = world.folder / f"start-{time.time_ns()}.db"
    command = serve_command(world, ledger, **({"bundles": bundles} if bundles else {}))
    if kernels is not None:
        environment = {**command.environment, "NUMBA_CACHE_DIR": str(kernels)}
        command = replace(command, environment=environment)
    with running(command, [core]) as server:
        live = server.wait(READY_SECONDS, "/health/live")
        ready = server.wait(READY_SECONDS)
        cpu = server.cpu_seconds()
        scores = []
        for account in world.accounts[:2]:
            start = time.perf_counter()
            post(f"{server.url}/v1/score", json.dumps({"accounts": [account]}))
            scores.append(1e3 * (time.perf_counter() - start))
    return {
        "live_seconds": live,
        "ready_seconds": ready,
        "ready_cpu_seconds": cpu,
        "first_score_ms": scores[0],
        "second_score_ms": scores[1],
    }


def _median(starts: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.median([start[name] for start in starts])) for name in starts[0]}


def _without_state(world: World) -> Path:
    """The bundles beside a pointer, and no market state."""
    folder = world.folder / "bundles-alone"
    if not folder.exists():
        sha256 = world.model.bundle.sha256
        shutil.copytree(world.folder / "bundles" / sha256, folder / sha256)
        shutil.copy2(world.folder / "bundles" / CHAMPION, folder / CHAMPION)
    return folder
