"""Any order and cut of the bars, and a restart, give the market of the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketState
from ledger.records import Entry
from ledger.store import Ledger
from market.bars.history import MarketHistory
from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import CLOSE, EXOGENOUS_WIDTH, FUNDING, BarPanel
from market.core.clock import SECOND, format_time
from market.sources.http import QuoteIn, quote_updates
from monitoring.market_state.bar_updates import Correction
from monitoring.market_state.live_market import LiveMarket
from tests.monitoring.market_helpers import (
    START,
    assert_equals_batch,
    assert_same_market,
    assert_same_state,
    at,
    column,
    post,
    statuses,
)

ADMIN = Correction("admin")


@settings(max_examples=40)
@given(data=st.data())
def test_any_order_and_cut_and_restart_equal_the_batch_to_the_last_bit(
    market: Any, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    steps = data.draw(st.integers(10, 20))
    cells = [(START + row, s) for row in range(steps) for s in range(4)]
    missing = data.draw(st.sets(st.sampled_from(cells[:-4]), max_size=20))
    there = [cell for cell in cells if cell not in missing]
    start = market.head(START)
    live = start.live()
    order = data.draw(st.permutations(there))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1), max_size=6)))
    restart = data.draw(st.integers(0, len(cuts)))
    now = at(market, START + steps)
    clocks = data.draw(st.sampled_from([None, now]))
    with Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db") as ledger:

        def record(entry: Entry) -> None:
            ledger.append([entry])

        for i, (first, last) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
            wall = None if clocks is None else clocks + i * 40 * SECOND
            part = [market.bar(row, s) for row, s in order[first:last]]
            assert set(statuses(post(live, part, now=wall, record=record))) == {"applied"}
            if i == restart:
                before, live = live, start.live()
                live.recover(ledger)
                assert_same_market(before, live)
        row, symbol = there[-1]
        assert statuses(post(live, [market.bar(row, symbol)], final=True, record=record)) == [
            "duplicate"
        ]
        values = market.panel.values[: START + steps].copy()
        for row, symbol in missing:
            values[row, symbol] = np.nan
        assert_equals_batch(live, market, values)
        again = start.live()
        again.recover(ledger)
        assert_same_market(live, again)


@settings(max_examples=20)
@given(
    spikes=st.lists(
        st.tuples(
            st.integers(START, START + 11),
            st.integers(0, 3),
            st.sampled_from([0.5, 0.7, 1.4, 3.0]),
        ),
        max_size=10,
    ),
    seed=st.integers(0, 2**32 - 1),
    cut=st.integers(0, 48),
)
def test_any_order_equals_the_filtered_batch_to_the_last_bit(
    market: Any, spikes: list[tuple[int, int, float]], seed: int, cut: int
) -> None:
    steps = 12
    values = market.panel.values[: START + steps].copy()
    for row, s, factor in spikes:
        values[row, s, :4] *= factor
    panel = replace(market.panel.rows(0, START + steps), values=values)
    batch = MarketHistory.from_panel(panel, OutlierFilter())
    history = MarketHistory.from_panel(market.panel.rows(0, START + 1), OutlierFilter())
    assert history.end is not None
    head = market.head(START)
    live = LiveMarket(
        head.state.copy(),
        head.history.last_mark(-1),
        head.features,
        head.panel,
        OutlierFilter(),
        history.end.state,
    )
    cells = [(row, s) for row in range(START, START + steps) for s in range(4)]
    order = [cells[k] for k in np.random.default_rng(seed).permutation(len(cells)).tolist()]
    for part in (order[:cut], order[cut:]):
        if part:
            posted = [bar_of(panel, row, s) for row, s in part]
            assert set(statuses(post(live, posted))) <= {"applied", "suspect", "rejected"}
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(batch.bars)
    assert_same_state(live.state.head, state)
    assert live.state.features is not None
    assert live.state.features.values[-1].tobytes() == features.values[-1].tobytes()
    assert live.state.mark.tobytes() == batch.last_mark(-1).tobytes()
    assert live.state.suspect.tolist() == batch.suspect_at(-1).tolist()


def bar_of(panel: BarPanel, row: int, column: int) -> dict[str, Any]:
    names = ("open", "high", "low", "close", "volume")
    values = dict(zip(names, panel.values[row, column].tolist(), strict=True))
    ts = format_time(int(panel.opens[row]))
    return {"symbol": panel.symbols[column], "ts": ts, **values}


@pytest.mark.parametrize("saved_every", [1, 10_000])
def test_recovery_keeps_the_exogenous_series_of_each_step(
    market: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, saved_every: int
) -> None:
    monkeypatch.setattr("monitoring.market_state.live_market.SAVED_EVERY", saved_every)
    live, restarted = market.head(START).live(), market.head(START).live()
    rows = range(START, START + 6)
    context = np.full((START + 6, 4, EXOGENOUS_WIDTH), np.nan)

    def funding(row: int, symbol: int, rate: float) -> None:
        context[row, symbol, FUNDING] = rate
        quote = QuoteIn(
            f"{market.panel.symbols[symbol]}-PERP",
            format_time(int(market.panel.opens[row]) + 60 * SECOND),
            funding=rate,
            interval_hours=1.0,
        )
        (result,) = live.post_quotes(quote_updates([quote]).updates, record=ledger.append).results
        assert result.status == "applied"

    for row in rows:
        funding(row, row % 4, 1e-5 * row)
    for symbol in range(3):
        post(live, column(market, rows, symbol), record=lambda entry: ledger.append([entry]))
    funding(START + 5, 3, 3e-4)  # of the newest step, which counts already
    post(live, column(market, rows, 3), record=lambda entry: ledger.append([entry]))
    assert_equals_batch(live, market, market.panel.values[: START + 6], context)
    restarted.recover(ledger)
    assert_same_market(live, restarted)
    post(live, market.bars(range(START + 6, START + 7)))
    post(restarted, market.bars(range(START + 6, START + 7)))
    assert_same_market(live, restarted)


def test_restart_from_a_later_history_applies_an_early_bar(market: Any, ledger: Ledger) -> None:
    live = market.head(START).live()
    early = market.bar(START + 6, 0)
    post(live, [early], record=lambda entry: ledger.append([entry]))
    later = market.head(START + 3).live()
    later.recover(ledger)
    assert list(later.state.waiting) == [int(market.panel.opens[START + 6])]
    assert later.newest_close == at(market, START + 2)


def test_records_of_earlier_versions_count_as_they_did(market: Any, ledger: Ledger) -> None:
    """Then the first bar of a step made it count, and ended the step before."""
    posts = [
        ([market.bar(START, 0)], ["applied"]),
        ([market.bar(START + 2, 0), market.bar(START + 2, 1)], ["applied", "applied"]),
        ([market.bar(START, 1)], ["late"]),
    ]
    for bars, statuses_then in posts:
        results = [
            {"symbol": bar["symbol"], "ts": bar["ts"], "status": status}
            for bar, status in zip(bars, statuses_then, strict=True)
        ]
        payload = {"interval": "1h", "bars": bars, "results": results}
        ledger.append([Entry("bars", payload, as_of=at(market, START + 2))])
    live = market.head(START).live()
    assert live.recover(ledger) == 3
    values = market.panel.values[: START + 3].copy()
    values[START:] = np.nan
    for row, symbol in ((START, 0), (START + 2, 0), (START + 2, 1)):
        values[row, symbol] = market.panel.values[row, symbol]
    assert_equals_batch(live, market, values)


def test_market_without_history_takes_bars_in_any_order(market: Any) -> None:
    state = MarketState(market.panel.symbols, market.panel.interval)
    live = LiveMarket(state, np.full(4, np.nan), None)
    for symbol in (2, 0, 1, 3):
        assert statuses(post(live, column(market, range(6), symbol))) == ["applied"] * 6
    assert_equals_batch(live, market, market.panel.values[:6])


def test_newest_step_of_the_history_takes_bars_that_it_lacks(market: Any) -> None:
    live = market.head(START).live()
    values = market.panel.values[START : START + 1].copy()
    values[0, 2] = np.nan
    newest = replace(market.panel.rows(START, START + 1), values=values)
    live.open_step(newest, np.where(np.isnan(values[0, :, CLOSE]), 1.5, values[0, :, CLOSE]))
    assert live.state.mark[2] == 1.5
    post(live, market.bars(range(START + 1, START + 2)))
    assert statuses(post(live, [market.bar(START, 2)])) == ["applied"]
    assert_equals_batch(live, market, market.panel.values[: START + 2])
