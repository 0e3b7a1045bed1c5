"""``python -m benchmarks``: run every bench and write its result."""

from __future__ import annotations

import time

from benchmarks import book, features, floors, ledger, live_update, option_margin, scoring
from benchmarks.measure import write

BENCHES = (features, floors, live_update, scoring, option_margin, book, ledger)


def main() -> None:
    """Run all benches in turn, each with the whole machine to itself."""
    for bench in BENCHES:
        start = time.perf_counter()
        result = bench.run()
        path = write(result)
        print(f"{result.name} ({time.perf_counter() - start:.0f} s) -> {path.name}")
        for name, value in (*result.medians.items(), *result.ratios.items()):
            print(f"  {name:<44} {value:>12.4g}")


if __name__ == "__main__":
    main()
