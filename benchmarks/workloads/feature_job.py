"""One contender of the feature bench: ``feature_job CONTENDER FOLDER``.

It runs in a process of its own on one core, for a separate peak memory, and prints its results as
JSON: seconds, peak memory, and the last row of every column.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.measure import process_peak_megabytes
from benchmarks.workloads.pandas_columns import exogenous_of
from market.bars.panel import BarPanel
from market.core.clock import INTERVALS, Interval

Floats = npt.NDArray[np.float64]
Last = dict[str, Floats]
"""Last row of each column, shape (S,)."""

INTERVAL = INTERVALS["1m"]
CHUNK = 6 * INTERVAL.per_hour
"""Bars a call that are handed to Margincast: six hours, which bounds memory whatever the span."""


def save(panel: BarPanel, folder: Path) -> None:
    """Write a panel for the jobs."""
    np.save(folder / "opens.npy", panel.opens)
    np.save(folder / "values.npy", panel.values)
    np.save(folder / "exogenous.npy", exogenous_of(panel))


def load(folder: Path, interval: Interval = INTERVAL) -> BarPanel:
    """Read it."""
    opens, values, exogenous = (
        np.load(folder / f"{name}.npy") for name in ("opens", "values", "exogenous")
    )
    symbols = tuple(f"COIN{s:02d}USDT" for s in range(values.shape[1]))
    return BarPanel(interval, symbols, opens, values, exogenous)


def every_feature(panel: BarPanel) -> Last:
    """All columns, both correlation matrices included."""
    from features.registry import MARKET_COLUMNS
    from features.state.market_state import MarketState

    state = MarketState(panel.symbols, panel.interval)
    values = np.empty((len(panel.symbols), len(MARKET_COLUMNS)))
    for first in range(0, len(panel), CHUNK):
        values[:] = state.advance(panel.rows(first, first + CHUNK)).values[-1]
    return {name: values[:, f].copy() for f, name in enumerate(MARKET_COLUMNS)}


def shared_kernels(panel: BarPanel) -> Last:
    """The columns that pandas and polars have too."""
    from benchmarks.workloads.pandas_columns import COLUMNS
    from features.market import inputs
    from features.registry import MARKET_FEATURES

    shared = [feature for feature in MARKET_FEATURES if feature.name in COLUMNS]
    state = inputs.new_state(len(panel.symbols))
    states = [np.zeros((len(panel.symbols), f.state_size(panel.interval))) for f in shared]
    last: Last = {}
    for first in range(0, len(panel), CHUNK):
        chunk = panel.rows(first, first + CHUNK)
        columns = inputs.new_inputs(chunk)
        inputs.build(chunk, state, columns)
        column = np.empty((len(panel.symbols), len(chunk)))
        for feature, memory in zip(shared, states, strict=True):
            feature.kernel(columns, memory, column, *feature.params(panel.interval))
            last[feature.name] = column[:, -1].copy()
    return last


def by_pandas(panel: BarPanel) -> Last:
    """One whole column at a time."""
    from benchmarks.workloads.pandas_columns import COLUMNS, Frames

    frames = Frames.of(panel)
    return {name: column(frames).iloc[-1].to_numpy().copy() for name, column in COLUMNS.items()}


def by_polars(panel: BarPanel) -> Last:
    """One symbol at a time, all its columns in one query."""
    from benchmarks.workloads.polars_columns import columns, frame_of

    expressions = columns(panel.interval.per_hour)
    rows = [
        frame_of(panel, s).select(**expressions).row(-1, named=True)
        for s in range(len(panel.symbols))
    ]
    return {name: np.array([row[name] for row in rows]) for name in expressions}


JOBS: Mapping[str, Callable[[BarPanel], Last]] = {
    "market_state": every_feature,
    "kernels": shared_kernels,
    "pandas": by_pandas,
    "polars": by_polars,
}


def main() -> None:
    """Run one job on one core and print its results."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    panel = load(folder)
    JOBS[name](panel.rows(0, CHUNK))  # compiles and imports
    start = time.perf_counter()
    last = JOBS[name](panel)
    seconds = time.perf_counter() - start
    peak = process_peak_megabytes()
    columns = {name: values.tolist() for name, values in last.items()}
    print(json.dumps({"seconds": seconds, "peak_megabytes": peak, "last": columns}))


if __name__ == "__main__":
    main()
