"""Market features over history: the compiled kernels beside pandas on the same bars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Result, median_seconds, peak_megabytes
from benchmarks.pandas_columns import COLUMNS, Frames
from features import inputs
from features.market_state import MarketState
from features.registry import MARKET_COLUMNS, MARKET_FEATURES
from market.clock import INTERVALS
from market.panel import BarPanel
from market.simulate import simulate_bars

Floats = npt.NDArray[np.float64]

SYMBOLS, DAYS, INTERVAL = 20, 60, INTERVALS["1m"]
CHUNK = 2 * 24 * INTERVAL.per_hour
"""Rows a call: two days, which bounds memory whatever the span."""
REPEATS = 3

SHARED = tuple(feature for feature in MARKET_FEATURES if feature.name in COLUMNS)


def run() -> Result:
    """All market features, the columns that pandas has as well, and pandas itself."""
    panel = simulate_bars(seed=1, days=DAYS, symbols=SYMBOLS, interval=INTERVAL)
    every_feature(panel.rows(0, 2))  # compiles
    shared_columns(panel.rows(0, 2))
    state = median_seconds(lambda: every_feature(panel), REPEATS)
    kernels = median_seconds(lambda: shared_columns(panel), REPEATS)
    pandas = median_seconds(lambda: pandas_columns(panel), REPEATS)
    state_memory = peak_megabytes(lambda: every_feature(panel))
    kernels_memory = peak_megabytes(lambda: shared_columns(panel))
    pandas_memory = peak_megabytes(lambda: pandas_columns(panel))
    last = np.stack([every_feature(panel)[:, MARKET_COLUMNS.index(f.name)] for f in SHARED])
    return Result(
        "features",
        settings={
            "symbols": SYMBOLS,
            "rows": len(panel),
            "interval": INTERVAL.name,
            "chunk_rows": CHUNK,
            "columns_of_market_state": len(MARKET_COLUMNS),
            "columns_in_both": len(SHARED),
            "repeats": REPEATS,
            "note": "market_state has all columns and the correlation matrix of every bar; "
            "kernels and pandas have the columns in both. Each keeps the last row only.",
        },
        medians={
            "market_state_seconds": state,
            "kernels_seconds": kernels,
            "pandas_seconds": pandas,
            "market_state_peak_megabytes": state_memory,
            "kernels_peak_megabytes": kernels_memory,
            "pandas_peak_megabytes": pandas_memory,
            "market_state_bars_per_second": len(panel) * SYMBOLS / state,
        },
        ratios={
            "pandas_over_kernels_seconds": pandas / kernels,
            "pandas_over_market_state_seconds": pandas / state,
            "pandas_over_kernels_memory": pandas_memory / kernels_memory,
            "largest_relative_difference": _difference(last, pandas_columns(panel)),
        },
    )


def every_feature(panel: BarPanel) -> Floats:
    """Last row of all columns from `MarketState`, chunk by chunk; shape (S, F)."""
    state = MarketState(panel.symbols, panel.interval)
    last = np.empty((len(panel.symbols), len(MARKET_COLUMNS)))
    for first in range(0, len(panel), CHUNK):
        last[:] = state.advance(panel.rows(first, first + CHUNK)).values[-1]
    return last


def shared_columns(panel: BarPanel) -> Floats:
    """Last row of the columns that pandas has too, from the kernels alone; shape (K, S)."""
    symbols = len(panel.symbols)
    state = inputs.new_state(symbols)
    states = [np.zeros((symbols, f.state_size(panel.interval))) for f in SHARED]
    last = np.empty((len(SHARED), symbols))
    for first in range(0, len(panel), CHUNK):
        chunk = panel.rows(first, first + CHUNK)
        rows, _, _ = inputs.build(chunk, state)
        column = np.empty((len(chunk), symbols))
        for k, feature in enumerate(SHARED):
            feature.kernel(rows, states[k], column, *feature.params(panel.interval))
            last[k] = column[-1]
    return last


def pandas_columns(panel: BarPanel) -> Floats:
    """Last row of the same columns from pandas, one whole column at a time; shape (K, S)."""
    frames = Frames.of(panel)
    last = np.empty((len(SHARED), len(panel.symbols)))
    for k, feature in enumerate(SHARED):
        function, hours = COLUMNS[feature.name]
        last[k] = function(frames, hours).iloc[-1].to_numpy()
    return last


def _difference(ours: Floats, theirs: Floats) -> float:
    """Largest difference between two sets of columns, each on the scale of its column."""
    scale = np.abs(theirs).max(axis=1, keepdims=True)
    return float((np.abs(ours - theirs) / scale).max())
