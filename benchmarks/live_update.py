"""One live bar for every symbol: how long until all market features are up to date."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Result, seconds_of_each
from features.market_state import MarketState
from features.registry import MARKET_COLUMNS, WARM_UP_HOURS
from market.clock import INTERVALS
from market.panel import BarPanel
from market.simulate import simulate_bars

SYMBOLS, STEPS = 50, 300
INTERVAL = INTERVALS["1h"]
_DAYS = 21


def run() -> Result:
    """Median and 99th percentile of one step of `MarketState`, after its warm-up."""
    panel = wide_panel()
    state = MarketState(panel.symbols, panel.interval)
    state.advance(panel.rows(0, WARM_UP_HOURS))
    state.advance(panel.rows(WARM_UP_HOURS, WARM_UP_HOURS + 1))
    steps = (panel.rows(t, t + 1) for t in range(WARM_UP_HOURS + 1, len(panel)))
    milliseconds = 1e3 * np.array(seconds_of_each(lambda: state.advance(next(steps)), STEPS))
    median = float(np.median(milliseconds))
    return Result(
        "live_update",
        settings={
            "symbols": SYMBOLS,
            "steps": STEPS,
            "interval": INTERVAL.name,
            "columns": len(MARKET_COLUMNS),
        },
        medians={
            "step_milliseconds": median,
            "step_99th_percentile_milliseconds": float(np.quantile(milliseconds, 0.99)),
            "symbol_microseconds": 1e3 * median / SYMBOLS,
        },
    )


def wide_panel() -> BarPanel:
    """More symbols than the simulated market has: two markets of half as many, side by side."""
    halves = [simulate_bars(seed, _DAYS, SYMBOLS // 2, INTERVAL) for seed in (1, 2)]
    return BarPanel(
        INTERVAL,
        tuple(f"COIN{i:02d}USDT" for i in range(SYMBOLS)),
        halves[0].opens,
        np.concatenate([half.values for half in halves], axis=1),
    )
