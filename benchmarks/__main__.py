"""``python -m benchmarks [NAME …]``: run every bench, or some, and write each result.

``python -m benchmarks reliability|chaos|soak|million|size|wire|openapi|console …`` run the service
as processes under faults and load; each has options, see ``--help``, and is run by its name only.
"""

from __future__ import annotations

import sys
import time

from benchmarks import (
    book,
    features,
    floors,
    ledger,
    live_update,
    monitoring,
    option_margin,
    scoring,
    writers,
)
from benchmarks.console import page_times
from benchmarks.enforcement import chaos
from benchmarks.fuzz import openapi, wire
from benchmarks.measure import write
from benchmarks.reliability import million, report, size, soak

BENCHES = (
    *(features, floors, live_update, scoring, option_margin, book, monitoring, ledger, writers),
)
CAMPAIGNS = {
    "reliability": report.main,
    "chaos": chaos.main,
    "soak": soak.main,
    "million": million.main,
    "size": size.main,
    "wire": wire.main,
    "openapi": openapi.main,
    "console": page_times.main,
}


def main() -> None:
    """Run the benches in turn, each with the whole machine to itself; or one campaign."""
    if sys.argv[1:2] and sys.argv[1] in CAMPAIGNS:
        CAMPAIGNS[sys.argv[1]](sys.argv[2:])
        return
    by_name = {bench.__name__.rpartition(".")[2]: bench for bench in BENCHES}
    names = sys.argv[1:] or list(by_name)
    unknown = sorted(set(names) - set(by_name))
    if unknown:
        sys.exit(f"there is no bench {', '.join(unknown)}; choose among {', '.join(by_name)}")
    for bench in (by_name[name] for name in names):
        start = time.perf_counter()
        result = bench.run()
        path = write(result)
        print(f"{result.name} ({time.perf_counter() - start:.0f} s) -> {path.name}")
        for name, value in (*result.medians.items(), *result.ratios.items()):
            print(f"  {name:<44} {value:>12.4g}")


if __name__ == "__main__":
    main()
