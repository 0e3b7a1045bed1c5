"""``python -m benchmarks.fuzz``: run a campaign; exit 1 where anything failed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.fuzz.campaign import Report, run_campaign
from benchmarks.measure import Result, write
from margin.rules.ruleset import list_rulesets


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="bodies over all rule sets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ruleset", action="append", help="a preset; may be repeated; default all")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/fuzz.json")
    parser.add_argument("--no-shrink", action="store_true", help="leave failing bodies as they are")
    arguments = parser.parse_args()
    presets = arguments.ruleset or list_rulesets()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = run_campaign(
            Path(folder),
            presets,
            arguments.count,
            arguments.seed,
            minimise=not arguments.no_shrink,
            log=lambda text: print(f"[{time.perf_counter() - start:.0f} s] {text}", flush=True),
        )
        _print(report, time.perf_counter() - start)
    if arguments.keep:
        settings = {"seed": arguments.seed, "rule_sets": len(presets)}
        print(f"written to {write(Result('fuzz', settings, {}, _counts(report)))}")
    sys.stdout.flush()
    if report.stuck:
        os._exit(1)  # a thread that cannot be ended would keep the process
    sys.exit(1 if report.failures else 0)


def _counts(report: Report) -> dict[str, int]:
    statuses: Counter[int] = Counter()
    for (_, status), times in report.responses.items():
        statuses[status] += times
    return {
        "requests": report.bodies,
        "decisions": report.decisions,
        "degraded": report.degraded,
        "broken_promises": report.times.total(),
        "answers_5xx": sum(times for status, times in statuses.items() if status >= 500),
        **{f"answers_{status}": times for status, times in sorted(statuses.items())},
        **{f"failed: {key}": times for key, times in report.times.items()},
    }


def _print(report: Report, seconds: float) -> None:
    print(f"\n{report.bodies} bodies in {seconds:.0f} s, {report.decisions} decisions recorded, ")
    print(f"{report.degraded} of them degraded; slowest calls:")
    for duration, route in reversed(report.slowest):
        print(f"  {duration:8.3f} s  {route}")
    print("\nanswers by route and status")
    for (route, status), times in sorted(report.responses.items()):
        print(f"  {times:>8}  {status}  {route}")
    print(f"\n{len(report.failures)} kinds of failure")
    for key, failure in report.failures.items():
        print(f"\n{report.times[key]} x {key}")
        print(f"  rule sets: {', '.join(sorted(report.presets[key]))}")
        print(failure)


if __name__ == "__main__":
    main()
