"""Market features over a year of minute bars: Margincast beside polars and pandas.

Every contender gets the same bars, one core and a process of its own; the kernels of the columns
that all have are timed as well as the whole of Margincast.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Result
from benchmarks.workloads.feature_job import CHUNK, INTERVAL, JOBS, save
from benchmarks.workloads.pandas_columns import COLUMNS
from features.registry import MARKET_COLUMNS
from market.simulator.simulated_market import simulate_market

SYMBOLS, DAYS = 20, 365
REPEATS = {"market_state": 3, "kernels": 3, "polars": 1, "pandas": 1}
"""The peers take minutes, and their spread is far below their distance."""
_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def run() -> Result:
    """Time and peak memory of each, and the largest difference between their columns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        panel = simulate_market(1, DAYS, SYMBOLS, INTERVAL).panel
        rows = len(panel)
        save(panel, folder)
        del panel
        jobs = {
            contender: [_job(contender, folder) for _ in range(REPEATS[contender])]
            for contender in JOBS
        }
    seconds = {
        contender: float(np.median([run["seconds"] for run in runs]))
        for contender, runs in jobs.items()
    }
    peak = {
        contender: max(run["peak_megabytes"] for run in runs) for contender, runs in jobs.items()
    }
    last = {contender: runs[0]["last"] for contender, runs in jobs.items()}
    return Result(
        "features",
        settings={
            "symbols": SYMBOLS,
            "rows": rows,
            "bars": rows * SYMBOLS,
            "interval": INTERVAL.name,
            "chunk_rows": CHUNK,
            "columns_of_market_state": len(MARKET_COLUMNS),
            "columns_in_all": len(COLUMNS),
            "note": "one core and a process each; market_state has all columns and two "
            "correlation matrices of every bar, the others the columns in all. Peaks are those of "
            "the process, the libraries and the bars it read included.",
        },
        medians={
            **{f"{contender}_seconds": value for contender, value in seconds.items()},
            **{f"{contender}_peak_megabytes": value for contender, value in peak.items()},
            "market_state_bars_per_second": rows * SYMBOLS / seconds["market_state"],
        },
        ratios={
            "pandas_over_market_state_seconds": seconds["pandas"] / seconds["market_state"],
            "polars_over_market_state_seconds": seconds["polars"] / seconds["market_state"],
            "pandas_over_kernels_seconds": seconds["pandas"] / seconds["kernels"],
            "polars_over_kernels_seconds": seconds["polars"] / seconds["kernels"],
            "pandas_over_market_state_memory": peak["pandas"] / peak["market_state"],
            "largest_relative_difference_to_pandas": _difference(last, "pandas"),
            "largest_relative_difference_to_polars": _difference(last, "polars"),
        },
    )


def _job(contender: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.workloads.feature_job", contender, str(folder)]
    environment = {**os.environ, **_ONE_THREAD}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _difference(last: dict[str, dict[str, list[float]]], contender: str) -> float:
    """Largest difference between two sets of columns, each on the scale of its column."""
    largest = 0.0
    for name in COLUMNS:
        ours, theirs = np.array(last["market_state"][name]), np.array(last[contender][name])
        largest = max(largest, float((np.abs(ours - theirs) / np.abs(theirs).max()).max()))
    return largest
