"""The full run: every fault at its full size, and the figures that are kept."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import RESULTS, Result, write
from benchmarks.reliability import scenarios
from benchmarks.reliability.postgres import DURABLE, Cluster, find_binaries, running_cluster
from benchmarks.reliability.scenarios import Found, Stopped
from benchmarks.reliability.workspace import Workspace, make_workspace

_HOUR = 3_600.0


def main(arguments: list[str]) -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reliability", description=__doc__)
    parser.add_argument("--decisions", type=int, default=10_000, help="acknowledged under kills")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="scenarios by comma; default all")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    binaries = find_binaries()
    if binaries is None:
        parser.exit(1, "PostgreSQL is not installed: initdb is neither on the PATH nor found\n")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, running_cluster(binaries, DURABLE) as cluster:
        chosen = _scenarios(options, cluster)
        names = [name for name in options.only.split(",") if name] or list(chosen)
        for name in names:
            workspace = make_workspace(Path(folder) / name)
            kept = _figures(chosen[name](workspace))
            figures |= {f"{name}_{figure}": value for figure, value in kept.items()}
            print(f"{name}: {', '.join(f'{n} {v}' for n, v in kept.items())}", flush=True)
    if options.keep:
        # A run of some scenarios renews their figures and leaves the others.
        settings = {n: v for n, v in vars(options).items() if n not in ("only", "keep")}
        kept = {**_kept(), **figures}
        print(f"written to {write(Result('reliability', settings, {}, kept))}")


def _kept() -> dict[str, float]:
    path = RESULTS / "reliability.json"
    figures: dict[str, float] = json.loads(path.read_bytes())["ratios"] if path.exists() else {}
    return figures


def _scenarios(
    options: argparse.Namespace, cluster: Cluster
) -> dict[str, Callable[[Workspace], Found | Stopped]]:
    count, kills, seed = options.decisions, options.kills, options.seed
    steps = (_HOUR, -_HOUR, -24.0 * _HOUR, 0.0)

    return {
        "kills_sqlite": lambda w: scenarios.kills(w, w.sqlite, count, kills, seed),
        "kills_postgres": lambda w: scenarios.kills(
            w, cluster.create_database(), count, kills, seed
        ),
        "database_faults_postgres": lambda w: scenarios.database_faults(
            w, cluster, cluster.create_database(), count // 2, seed
        ),
        "full_disk_sqlite": lambda w: scenarios.full_disk(w, w.sqlite, count // 10, seed),
        "locked_sqlite": lambda w: scenarios.locked(w, w.sqlite, 5.0, count // 10, seed),
        "moved_away_sqlite": lambda w: scenarios.moved_away(
            w, w.sqlite, count // 10, seed, replaced=False
        ),
        "replaced_sqlite": lambda w: scenarios.moved_away(
            w, w.sqlite, count // 10, seed, replaced=True
        ),
        "swaps_sqlite": lambda w: scenarios.swaps(w, w.sqlite, options.swaps, seed),
        "swaps_postgres": lambda w: scenarios.swaps(
            w, cluster.create_database(), options.swaps, seed
        ),
        "bad_bundles_sqlite": lambda w: scenarios.bad_bundles(w, w.sqlite, count // 50, seed),
        "clock_steps_sqlite": lambda w: scenarios.clock_steps(w, w.sqlite, count // 5, steps, seed),
        "clock_steps_postgres": lambda w: scenarios.clock_steps(
            w, cluster.create_database(), count // 5, steps, seed
        ),
        "sigterm_sqlite": lambda w: scenarios.stop_under_load(w, w.sqlite, 1_000, 8, seed),
        "sigterm_postgres": lambda w: scenarios.stop_under_load(
            w, cluster.create_database(), 1_000, 8, seed
        ),
    }


def _figures(measured: Found | Stopped) -> dict[str, float]:
    """Counts that do not depend on the machine but for how many calls a fault met."""
    found = measured.found if isinstance(measured, Stopped) else measured
    outcome, evidence = found.outcome, found.evidence
    answers: Counter[int] = outcome.answers
    return {
        "acknowledged": evidence.acknowledged,
        "recorded": evidence.recorded,
        "lost": evidence.lost,
        "doubled": evidence.doubled,
        "broken_levels": evidence.broken_levels,
        "verify_problems": len(evidence.problems),
        "calls_repeated": sum(call.attempts > 1 for call in outcome.acknowledged),
        "answers_503": answers[503],
        "other_answers": answers.total() - answers[503] + len(outcome.wrong),
        "resets": outcome.broken["reset"],
    }
