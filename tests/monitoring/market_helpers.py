"""Helpers for tests of the live market: post bars, and compare markets bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.state.market_state import MarketState
from market.bars.panel import CLOSE, BarPanel
from market.sources.http import BarIn, bar_updates
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarsResponse

START = 220


def post(live: LiveMarket, bars: list[dict[str, Any]], **rest: Any) -> BarsResponse:
    return live.post(
        "1h", bar_updates([BarIn(**bar) for bar in bars], rest.get("now")).updates, **rest
    )


def statuses(response: BarsResponse) -> list[str]:
    return [result.status for result in response.results]


def column(market: Any, rows: range, symbol: int) -> list[dict[str, Any]]:
    return [market.bar(row, symbol) for row in rows]


def at(market: Any, row: int) -> int:
    return int(market.panel.closes[row])


def assert_same_market(a: LiveMarket, b: LiveMarket) -> None:
    """Everything that a later bar or decision can depend on."""
    one, two = a.state, b.state
    for part in ("committed", "head"):
        assert_same_state(getattr(one, part), getattr(two, part))
    for name in ("mark", "mark_before", "filter_state", "filter_state_before"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    assert one.closed == two.closed
    for name in ("received_bars", "corrections"):
        left, right = getattr(one, name), getattr(two, name)
        assert left.keys() == right.keys(), name
        assert all(left[open_].tobytes() == right[open_].tobytes() for open_ in left), name
    for name in ("steps", "waiting"):
        left, right = getattr(one, name), getattr(two, name)
        assert left.keys() == right.keys(), name
        for open_, step in left.items():
            assert step.bars.tobytes() == right[open_].bars.tobytes()
            assert step.received == right[open_].received
    assert [c.next_open for c in one.checkpoints] == [c.next_open for c in two.checkpoints]
    for left, right in zip(one.checkpoints, two.checkpoints, strict=True):
        assert_same_state(left.state, right.state)
    for left, right in zip(one.ahead, two.ahead, strict=True):
        assert left.close == right.close
        assert left.mark.tobytes() == right.mark.tobytes()


def assert_same_state(a: MarketState, b: MarketState) -> None:
    assert a.last_open == b.last_open
    for name, array in a.arrays.items():
        assert array.tobytes() == b.arrays[name].tobytes(), name


def assert_equals_batch(live: LiveMarket, market: Any, values: Any, context: Any = None) -> None:
    """The live market after `START` is that of the batch over these bars, to the last bit."""
    rows, symbols = len(values), market.panel.symbols
    panel = BarPanel(market.panel.interval, symbols, market.panel.opens[:rows], values, context)
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel)
    assert_same_state(live.state.head, state)
    assert live.state.features is not None
    for name in ("values", "correlation", "fast_correlation", "age", "history", "bar_hours"):
        mine = getattr(live.state.features, name)[-1]
        assert mine.tobytes() == np.ascontiguousarray(getattr(features, name)[-1]).tobytes(), name
    closes = values[:, :, CLOSE]
    last = rows - 1 - np.argmax(~np.isnan(closes[::-1]), axis=0)
    assert live.state.mark.tobytes() == closes[last, np.arange(closes.shape[1])].tobytes()
