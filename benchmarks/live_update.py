"""One live bar for every symbol: how long until all market features are up to date."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Result, seconds_of_each
from features.registry import MARKET_COLUMNS, WARM_UP_HOURS
from features.state.market_state import MarketState
from market.bars.panel import CLOSE, BarPanel
from market.core.clock import INTERVALS, Interval
from market.simulator.simulated_market import simulate_bars
from market.sources.base import BarUpdate
from monitoring.market_state.live_market import LiveMarket

Floats = npt.NDArray[np.float64]

SYMBOLS, STEPS = 50, 300
COARSE, FINE = INTERVALS["1h"], INTERVALS["1m"]


def run() -> Result:
    """Median and 99th percentile of one step of `MarketState`, after its warm-up; the same for a
    post of all bars of a step to the live market that serves the endpoint."""
    hours, minutes = step_milliseconds(COARSE), step_milliseconds(FINE)
    posts = post_milliseconds()
    return Result(
        "live_update",
        settings={
            "symbols": SYMBOLS,
            "steps": STEPS,
            "columns": len(MARKET_COLUMNS),
            "note": "a step is one bar for every symbol; a post also checks the bars, filters "
            "outliers and keeps the step open to corrections",
        },
        medians={
            "step_milliseconds": float(np.median(hours)),
            "step_99th_percentile_milliseconds": float(np.quantile(hours, 0.99)),
            "symbol_microseconds": 1e3 * float(np.median(hours)) / SYMBOLS,
            "minute_step_milliseconds": float(np.median(minutes)),
            "minute_step_99th_percentile_milliseconds": float(np.quantile(minutes, 0.99)),
            "post_milliseconds": float(np.median(posts)),
        },
    )


def step_milliseconds(interval: Interval) -> Floats:
    """Time of each of `STEPS` steps."""
    panel = wide_panel(interval)
    warm = WARM_UP_HOURS * interval.per_hour
    state = MarketState(panel.symbols, panel.interval)
    state.advance(panel.rows(0, warm))
    state.advance(panel.rows(warm, warm + 1))
    steps = (panel.rows(t, t + 1) for t in range(warm + 1, len(panel)))
    return 1e3 * np.array(seconds_of_each(lambda: state.advance(next(steps)), STEPS))


def post_milliseconds() -> Floats:
    """Time of each of `STEPS` posts of hourly bars."""
    panel = wide_panel(COARSE)
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel.rows(0, WARM_UP_HOURS))
    live = LiveMarket(state, panel.values[WARM_UP_HOURS - 1, :, CLOSE], features)
    bodies = (
        [
            BarUpdate(symbol, int(panel.opens[t]), tuple(panel.values[t, s].tolist()))
            for s, symbol in enumerate(panel.symbols)
        ]
        for t in range(WARM_UP_HOURS, len(panel))
    )
    live.post(COARSE.name, next(bodies))
    posts = [next(bodies) for _ in range(STEPS)]
    waiting = iter(posts)
    return 1e3 * np.array(seconds_of_each(lambda: live.post(COARSE.name, next(waiting)), STEPS))


def wide_panel(interval: Interval) -> BarPanel:
    """More symbols than the simulated market has: two markets of half as many, side by side."""
    days = (WARM_UP_HOURS + STEPS / interval.per_hour) / 24.0
    halves = [simulate_bars(seed, math.ceil(days) + 1, SYMBOLS // 2, interval) for seed in (1, 2)]
    return BarPanel(
        interval,
        tuple(f"COIN{i:02d}USDT" for i in range(SYMBOLS)),
        halves[0].opens,
        np.concatenate([half.values for half in halves], axis=1),
    )
