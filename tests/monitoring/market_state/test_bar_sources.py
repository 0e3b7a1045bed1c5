"""The live market does not know which source its bars came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger.records import Entry
from market.bars.panel import BarPanel
from market.core.clock import SECOND, format_time
from market.simulator.market_writer import write_bars
from market.sources.base import BarUpdate
from market.sources.http import BarIn, bar_updates
from market.sources.parquet import BarFolder

START, ROWS = 220, 4


@pytest.fixture
def updates(market: Any, tmp_path: Path) -> list[BarUpdate]:
    """The bars of some rows, from files."""
    panel: BarPanel = market.panel.rows(START, START + ROWS)
    write_bars(panel, tmp_path)
    folder = BarFolder(tmp_path)
    return [bar for symbol in folder.symbols() for bar in folder.read(symbol)]


def posted(market: Any, known_at: int | None = None) -> list[BarUpdate]:
    """The same bars from the messages of the HTTP API."""
    bodies = market.bars(range(START, START + ROWS))
    return bar_updates([BarIn(**body) for body in bodies], known_at).readable()


def test_files_and_messages_give_the_same_updates(market: Any, updates: list[BarUpdate]) -> None:
    assert sorted(updates) == sorted(posted(market))
    assert len(updates) == ROWS * 4


def test_files_and_messages_move_the_live_market_alike(
    market: Any, updates: list[BarUpdate]
) -> None:
    entries: tuple[list[Entry], list[Entry]] = [], []
    lives = [market.head(START).live() for _ in range(2)]
    for live, bars, recorded in zip(lives, (updates, posted(market)), entries, strict=True):
        results = live.post("1h", sorted(bars), record=recorded.append).results
        assert {result.status for result in results} == {"applied"}
    filed, sent = (live.state for live in lives)
    assert filed.newest_close == sent.newest_close == int(market.panel.closes[START + ROWS - 1])
    for name in ("mark", "mark_before", "filter_state"):
        assert getattr(filed, name).tobytes() == getattr(sent, name).tobytes(), name
    for name in ("values", "correlation", "fast_correlation", "age"):
        left, right = getattr(filed.features, name), getattr(sent.features, name)
        assert left.tobytes() == right.tobytes(), name
    assert {o: v.tobytes() for o, v in filed.received_bars.items()} == {
        o: v.tobytes() for o, v in sent.received_bars.items()
    }
    assert [entry.payload for entry in entries[0]] == [entry.payload for entry in entries[1]]


def test_a_bar_that_was_known_before_it_closed_is_rejected(market: Any) -> None:
    live = market.head(START).live()
    close = int(market.panel.closes[START + ROWS - 1])
    results = live.post("1h", posted(market, close - SECOND), now=close - SECOND).results
    early = {result.ts for result in results if result.status == "rejected"}
    assert early == {format_time(int(market.panel.opens[START + ROWS - 1]))}
    assert np.isfinite(live.state.mark).all()
