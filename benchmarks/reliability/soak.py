"""``python -m benchmarks soak``: load for minutes with swaps, killed workers and bad clients."""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Result, write
from benchmarks.reliability.bad_clients import BadClients
from benchmarks.reliability.evidence import Evidence, examine
from benchmarks.reliability.load import Load, Outcome, Plan
from benchmarks.reliability.postgres import DURABLE, find_binaries, running_cluster
from benchmarks.reliability.scenarios import serve
from benchmarks.reliability.service import Service
from benchmarks.reliability.workspace import Workspace, make_workspace
from models.bundle.pointer import promote

WORKERS = 2
_PERCENTILES = (50.0, 99.0, 100.0)
_SETTLE_SECONDS = 2.0
_PROBE_SECONDS = 0.2
_PAUSE_SECONDS = 0.05
_SWAP_SECONDS = 5.0
_KILL_SECONDS = 15.0
"""Between two kills at least: a service gives up where five workers end within a minute."""
_HEALTH_SECONDS = 5.0


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes
    ----------
    outcome, evidence:
        As of every scenario.
    minutes:
        Calls and latency percentiles of each minute, in milliseconds: 50, 99, 100.
    swaps, kills, bad:
        How often the champion was swapped, a worker killed, and a bad client sent something.
    probes, failures:
        Probes of liveness, and those that were not answered 200 within 5 s, by
        `Service.failure`.
    megabytes, descriptors:
        Resident memory in 10^6 bytes and open descriptors of all processes: after a first span
        of load, and at the end without load.
    """

    outcome: Outcome
    evidence: Evidence
    minutes: list[tuple[int, float, float, float]]
    swaps: int
    kills: int
    bad: int
    probes: int
    failures: Counter[str]
    megabytes: tuple[float, float]
    descriptors: tuple[int, int]


def soak(workspace: Workspace, url: str, seconds: float, seed: int = 1) -> Soak:
    """Run the load for so many seconds, with bad clients and the faults of the times above."""
    rng = random.Random(seed)  # noqa: S311 - moments of faults
    swaps = kills = 0
    with serve(workspace, url, "--workers", str(WORKERS)) as service:
        with (
            Load(service.port, Plan(seed=seed, pause=_PAUSE_SECONDS)) as load,
            BadClients(service.port, seed) as bad,
        ):
            load.more(200)
            service.wait_for(lambda: service.ready_workers() == WORKERS, "all workers are ready")
            first = (service.resident_bytes(), service.descriptors())
            begun = time.monotonic()
            probes, failures = 0, Counter[str]()
            next_swap, next_kill = 0.5 * _SWAP_SECONDS, _KILL_SECONDS
            while (now := time.monotonic() - begun) < seconds:
                probes += 1
                failures.update(filter(None, [service.failure("/health/live", _HEALTH_SECONDS)]))
                if now >= next_swap:
                    bundle = workspace.bundles[(swaps + 1) % len(workspace.bundles)]
                    promote(workspace.root, bundle)
                    swaps += 1
                    next_swap = now + rng.uniform(0.5, 1.5) * _SWAP_SECONDS
                if now >= next_kill and _kill_worker(service, rng):
                    kills += 1
                    next_kill = now + rng.uniform(1.0, 1.5) * _KILL_SECONDS
                service.check()
                time.sleep(_PROBE_SECONDS)
            outcome = load.finish()
            sent = bad.finish()
        service.wait()
        time.sleep(_SETTLE_SECONDS)
        last = (service.resident_bytes(), service.descriptors())
    return Soak(
        outcome,
        examine(url, outcome),
        _minutes(outcome, begun),
        swaps,
        kills,
        sent,
        probes,
        failures,
        (first[0] / 1e6, last[0] / 1e6),
        (first[1], last[1]),
    )


def _kill_worker(service: Service, rng: random.Random) -> bool:
    """Whether one was killed: only where all are ready, or the only one that answers might be."""
    if service.ready_workers() < WORKERS:
        return False
    workers = service.workers()
    os.kill(rng.choice(workers), signal.SIGKILL)
    return True


def _minutes(outcome: Outcome, begun: float) -> list[tuple[int, float, float, float]]:
    finished = np.array([call.finished - begun for call in outcome.acknowledged])
    latency = np.array([call.milliseconds for call in outcome.acknowledged])
    minute = np.maximum(finished // 60.0, 0.0).astype(int)
    rows = []
    for number in range(int(minute.max()) + 1):
        of_minute = latency[minute == number]
        if len(of_minute):
            p50, p99, longest = np.percentile(of_minute, _PERCENTILES).tolist()
            rows.append((len(of_minute), p50, p99, longest))
    return rows


def main(arguments: list[str]) -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/soak.json")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = make_workspace(Path(folder) / "work")

        def run(url: str) -> Soak:
            return soak(workspace, url, 60.0 * options.minutes, options.seed)

        found = run(workspace.sqlite) if options.ledger == "sqlite" else _on_postgres(run, parser)
    result = _result(found, options)
    for name, value in (*result.medians.items(), *result.ratios.items()):
        print(f"{name:<36} {value:>12.5g}")
    for fault in found.outcome.wrong[:5]:
        print(fault)
    if options.keep:
        print(f"written to {write(result)}")


def _on_postgres(run: Callable[[str], Soak], parser: argparse.ArgumentParser) -> Soak:
    binaries = find_binaries()
    if binaries is None:
        parser.exit(1, "no PostgreSQL server is installed; take --ledger sqlite\n")
    with running_cluster(binaries, DURABLE) as cluster:
        return run(cluster.create_database())


def _result(found: Soak, options: argparse.Namespace) -> Result:
    outcome, evidence = found.outcome, found.evidence
    medians: dict[str, float] = {}
    for number, (calls, p50, p99, longest) in enumerate(found.minutes):
        name = f"minute_{number + 1}"
        medians |= {
            f"{name}_calls": calls,
            f"{name}_p50_milliseconds": p50,
            f"{name}_p99_milliseconds": p99,
            f"{name}_longest_milliseconds": longest,
        }
    for name, value in zip(("first", "last"), found.megabytes, strict=True):
        medians[f"resident_{name}_megabytes"] = value
    counts = {
        "calls": len(outcome.acknowledged),
        "decisions": evidence.acknowledged,
        "swaps": found.swaps,
        "worker_kills": found.kills,
        "bad_client_turns": found.bad,
        "liveness_probes": found.probes,
        "liveness_failures": found.failures.total(),
        **{f"liveness_failures_{kind}": times for kind, times in sorted(found.failures.items())},
        "calls_repeated": sum(call.attempts > 1 for call in outcome.acknowledged),
        "answers_503": outcome.answers[503],
        "answers_5xx_otherwise": sum(
            times for status, times in outcome.answers.items() if status >= 500 and status != 503
        ),
        "wrong_answers": len(outcome.wrong),
        "lost": evidence.lost,
        "doubled": evidence.doubled,
        "broken_levels": evidence.broken_levels,
        "verify_problems": len(evidence.problems),
        "descriptors_first": found.descriptors[0],
        "descriptors_last": found.descriptors[1],
    }
    settings = {"minutes": options.minutes, "ledger": options.ledger, "workers": WORKERS}
    return Result("soak", settings=settings, medians=medians, ratios=counts)
