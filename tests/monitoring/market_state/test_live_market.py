from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketFeatures, MarketState
from ledger.records import Entry
from ledger.store import Ledger
from market.bars.panel import CLOSE, EXOGENOUS_WIDTH, FUNDING, BarPanel
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import DataError, LedgerError
from market.simulator.simulated_market import simulate_bars
from market.sources.http import BarIn, bar_updates
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarResult, BarsResponse
from monitoring.market_state.steps import StepRule

START = 220
ANY_BAR = StepRule(quorum=0.0)
"""Any bar makes its step count."""


def post(live: LiveMarket, bars: list[dict[str, Any]], **rest: Any) -> BarsResponse:
    batch = bar_updates([BarIn(**bar) for bar in bars], rest.get("now"))
    response = live.post("1h", batch.updates, **rest)

    def refuse(place: int, why: str) -> BarResult:
        return BarResult(bars[place]["symbol"], bars[place]["ts"], "rejected", why)

    return BarsResponse(batch.in_order(response.results, refuse), response.as_of)


def statuses(response: BarsResponse) -> list[str]:
    return [result.status for result in response.results]


def same_bits(a: MarketFeatures | None, b: MarketFeatures | None, row: int = -1) -> None:
    assert a is not None
    assert b is not None
    for name in ("values", "correlation", "fast_correlation", "age", "history"):
        left, right = getattr(a, name)[-1], getattr(b, name)[row]
        assert left.tobytes() == np.ascontiguousarray(right).tobytes(), name
    one, other = a.daily_at(-1), b.daily_at(row)
    assert one is not None
    assert other is not None
    assert one.until == other.until
    assert one.close.tobytes() == other.close.tobytes()
    assert one.variance.tobytes() == other.variance.tobytes()


def assert_same_state(a: LiveMarket, b: LiveMarket) -> None:
    for part in ("committed", "head"):
        left, right = getattr(a.state, part), getattr(b.state, part)
        assert left.last_open == right.last_open
        for name, array in left.arrays.items():
            assert array.tobytes() == right.arrays[name].tobytes(), name
        for name, array in left.daily.arrays().items():
            assert array.tobytes() == right.daily.arrays()[name].tobytes(), name
    same_bits(a.state.features, b.state.features)
    assert a.state.mark.tobytes() == b.state.mark.tobytes()
    assert a.state.received_bars.keys() == b.state.received_bars.keys()
    for open_, values in a.state.received_bars.items():
        assert values.tobytes() == b.state.received_bars[open_].tobytes()


@settings(max_examples=15)
@given(data=st.data())
def test_order_of_bars_within_a_step_and_cut_into_posts_do_not_matter(
    market: Any, data: st.DataObject
) -> None:
    live = market.head(START).live()
    for row in range(START, START + 4):
        bars = data.draw(st.permutations(market.bars(range(row, row + 1))))
        cut = data.draw(st.integers(0, len(bars)))
        for part in (bars[:cut], bars[cut:]):
            if part:
                assert set(statuses(post(live, part))) == {"applied"}
        same_bits(live.state.features, market.features, row)
        np.testing.assert_array_equal(live.state.mark, market.panel.values[row, :, CLOSE])


def test_a_month_of_posted_bars_equals_the_batch(market: Any) -> None:
    whole = type(market).of(simulate_bars(3, 41, 4, market.panel.interval))
    live = whole.head(264).live()
    response = post(live, whole.bars(range(264, len(whole.panel))))
    assert set(statuses(response)) == {"applied"}
    assert response.as_of == format_time(int(whole.panel.closes[-1]))
    same_bits(live.state.features, whole.features)
    for name, array in whole.state.arrays.items():
        assert live.state.head.arrays[name].tobytes() == array.tobytes()


def test_missing_steps_and_missing_bars_equal_the_batch_with_nan(market: Any) -> None:
    live = market.head(START).live(ANY_BAR)
    present = [market.bar(START, 0), market.bar(START + 5, 1), market.bar(START + 7, 0)]
    for bar in present:
        post(live, [bar])
    values = market.panel.values[: START + 8].copy()
    values[START:] = np.nan
    for row, column in ((START, 0), (START + 5, 1), (START + 7, 0)):
        values[row, column] = market.panel.values[row, column]
    opens = market.panel.opens[: START + 8]
    batch = type(market).of(BarPanel(market.panel.interval, market.panel.symbols, opens, values))
    same_bits(live.state.features, batch.features)
    kept = [market.panel.values[START + 7, 0, CLOSE], market.panel.values[START + 5, 1, CLOSE]]
    assert live.state.mark[:2].tolist() == kept
    np.testing.assert_array_equal(live.state.mark[2:], market.panel.values[START - 1, 2:, CLOSE])


def test_a_gap_longer_than_one_piece_equals_the_batch(market: Any) -> None:
    live, missing = market.live(ANY_BAR), 2_100
    ts = int(market.panel.opens[-1]) + (missing + 1) * HOUR
    post(live, [{**market.bar(0, 0), "ts": format_time(ts)}], now=ts + HOUR)
    state = market.state.copy()
    opens = np.arange(int(market.panel.opens[-1]) + HOUR, ts + HOUR, HOUR)
    values = np.full((missing + 1, 4, 5), np.nan)
    values[-1, 0] = market.panel.values[0, 0]
    batch = state.advance(BarPanel(market.panel.interval, market.panel.symbols, opens, values))
    same_bits(live.state.features, batch)


def test_the_same_bar_again_is_a_duplicate_pending_committed_or_of_the_history(
    market: Any,
) -> None:
    live = market.head(START).live()
    bar = market.bar(START, 0)
    assert statuses(post(live, [bar, bar])) == ["applied", "duplicate"]
    assert statuses(post(live, [bar])) == ["duplicate"]
    post(live, market.bars(range(START + 1, START + 2)))
    assert statuses(post(live, [bar, market.bar(START - 1, 2)])) == ["duplicate", "duplicate"]


def test_a_bar_older_than_the_memory_is_late_even_if_it_is_the_same(market: Any) -> None:
    assert statuses(post(market.live(), [market.bar(3, 0)])) == ["late"]


def test_a_corrected_pending_bar_replaces_the_first_one(market: Any) -> None:
    live, other = market.head(START).live(), market.head(START).live()
    wrong = market.bar(START, 0) | {"volume": 1.0}
    post(live, [wrong])
    assert statuses(post(live, market.bars(range(START, START + 1)))) == [
        "corrected",
        *["applied"] * 3,
    ]
    post(other, market.bars(range(START, START + 1)))
    assert_same_state(live, other)


def test_a_late_bar_never_changes_what_was_known_nor_what_follows(market: Any) -> None:
    live, other = market.head(START).live(), market.head(START).live()
    for each in (live, other):
        post(each, market.bars(range(START + 1, START + 2)), final=True)
    before = live.state
    late = [market.bar(START, 1), market.bar(START - 2, 0) | {"volume": 5.0}]
    response = post(live, late)
    assert statuses(response) == ["late", "late"]
    assert response.results[0].detail
    assert live.state.features is before.features
    assert live.state.mark is before.mark
    assert statuses(post(live, late)) == ["duplicate", "duplicate"]
    for each in (live, other):
        post(each, market.bars(range(START + 2, START + 4)))
    same_bits(live.state.features, other.state.features)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"symbol": "NOPEUSDT"}, "unknown"),
        ({"ts": "soon and then"}, "ISO 8601"),
        ({"ts": "2025-01-10T05:30:00Z"}, "whole multiple"),
        ({"ts": "2400-01-01T00:00:00Z"}, "out of range"),
        ({"ts": "2200-01-01T00:00:00Z"}, "over 7 days ahead"),
        ({"ts": "2025-01-17T06:00:00Z"}, "over 7 days ahead"),
        ({"ts": "1960-01-01T00:00:00Z"}, "out of range"),
        ({"high": 1e-9}, "cannot exist"),
        ({"close": -1.0}, "cannot exist"),
        ({"volume": -1.0}, "cannot exist"),
        ({"low": 0.0}, "cannot exist"),
        ({"low": 1e-300}, "cannot exist"),
        ({"high": 1e300}, "cannot exist"),
        ({"volume": 1e300}, "cannot exist"),
        ({"volume": 1e-320}, "cannot exist"),
        ({"close": float("nan")}, "cannot exist"),
    ],
)
def test_an_impossible_bar_is_rejected_and_moves_nothing(
    market: Any, change: dict[str, Any], detail: str
) -> None:
    live = market.head(START).live()
    before = live.state
    entries: list[Entry] = []
    response = post(live, [market.bar(START, 0) | change], record=entries.append)
    assert statuses(response) == ["rejected"]
    assert detail in str(response.results[0].detail)
    assert live.state is before
    assert entries == []


def test_bars_of_another_interval_are_rejected(market: Any) -> None:
    response = market.live().post("5m", bar_updates([BarIn(**market.bar(0, 0))]).updates)
    assert statuses(response) == ["rejected"]
    assert "'5m'" in str(response.results[0].detail)


def test_a_bar_that_has_not_closed_is_rejected_on_the_wall_clock_only(market: Any) -> None:
    close = int(market.panel.closes[START])
    for now, status in ((close - 1, "rejected"), (close, "applied"), (None, "applied")):
        live = market.head(START).live()
        assert statuses(post(live, [market.bar(START, 0)], now=now)) == [status]


def test_one_bar_far_ahead_does_not_take_the_market_with_it(market: Any) -> None:
    """Bars may bridge any span in one post, but not by leaps."""
    live = market.head(START).live()
    mistaken = market.bar(START, 0) | {"ts": "2026-10-20T00:00:00Z"}
    response = post(live, [mistaken, *market.bars(range(START, START + 2))])
    assert statuses(response) == ["rejected", *["applied"] * 8]
    same_bits(live.state.features, market.features, START + 1)
    vouched = post(live, [mistaken], now=parse_time("2026-10-20T01:00:00Z"))
    assert statuses(vouched) == ["rejected"]
    assert "400 days" in str(vouched.results[0].detail)


def test_the_newest_step_of_the_history_can_be_corrected(market: Any, ledger: Ledger) -> None:
    def start() -> LiveMarket:
        live: LiveMarket = market.head(START).live()
        newest = market.panel.rows(START, START + 1)
        live.open_step(newest, np.array([1.0, 2.0, 3.0, 4.0]))
        return live

    live = start()
    same_bits(live.state.features, market.features, START)
    assert live.state.mark.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert statuses(post(live, market.bars(range(START, START + 1)))) == ["duplicate"] * 4

    change = market.bar(START, 1)
    change |= {"close": change["low"]}
    assert statuses(post(live, [change], record=lambda entry: ledger.append([entry]))) == [
        "corrected"
    ]
    # The other symbols keep the mark they have, which may be of another kind than their bars.
    assert live.state.mark.tolist() == [1.0, change["low"], 3.0, 4.0]

    restarted = start()
    assert restarted.recover(ledger) == 1
    assert_same_state(live, restarted)


def test_results_keep_the_order_of_the_bars_while_steps_are_taken_in_order_of_time(
    market: Any,
) -> None:
    live = market.head(START).live()
    bars = market.bars(range(START, START + 3))[::-1]
    response = post(live, bars)
    assert statuses(response) == ["applied"] * 12
    assert [(r.symbol, r.ts) for r in response.results] == [(b["symbol"], b["ts"]) for b in bars]
    same_bits(live.state.features, market.features, START + 2)


def test_bars_that_cannot_be_recorded_do_not_count_and_can_be_posted_again(market: Any) -> None:
    live = market.head(START).live()
    before = live.state

    def refuse(_: Entry) -> None:
        raise LedgerError("disk full")

    with pytest.raises(LedgerError):
        post(live, [market.bar(START, 0)], record=refuse)
    assert live.state is before
    assert statuses(post(live, [market.bar(START, 0)])) == ["applied"]


def test_a_restart_from_the_ledger_gives_the_same_state_to_the_bit(
    market: Any, ledger: Ledger
) -> None:
    live, restarted = market.head(START).live(), market.head(START).live()

    def record(entry: Entry) -> None:
        ledger.append([entry])

    post(live, market.bars(range(START, START + 2)), record=record)
    post(live, [market.bar(START + 3, 2)], record=record)
    post(live, [market.bar(START + 2, 0), {**market.bar(0, 0), "low": -1.0}], record=record)
    post(live, [market.bar(START + 3, 2) | {"volume": 7.0}], record=record)
    post(live, [market.bar(START + 3, 2) | {"volume": 7.0}], record=record)
    kept = [record.payload["bars"] for record in ledger.records("bars")]
    assert [len(bars) for bars in kept] == [8, 1, 1, 1]
    assert restarted.recover(ledger) == 11
    assert_same_state(live, restarted)
    restarted.recover(ledger)
    assert_same_state(live, restarted)
    later = market.head(START + 1).live()
    later.recover(ledger)
    same_bits(later.state.features, live.state.features)


def test_a_market_without_history_starts_with_its_first_bar(market: Any) -> None:
    from features.state.market_state import MarketState

    state = MarketState(market.panel.symbols, market.panel.interval)
    live = LiveMarket(state, np.full(4, np.nan), None)
    assert live.newest_close is None
    with pytest.raises(DataError, match="no bar yet"):
        live.snapshot(0)
    post(live, market.bars(range(START)))
    same_bits(live.state.features, market.head(START).features)


def test_a_snapshot_before_the_newest_close_is_refused_and_names_both_times(market: Any) -> None:
    live = market.live()
    newest = int(market.panel.closes[-1])
    assert live.snapshot(newest + HOUR).features.age[0].tolist() == [1.0] * 4
    with pytest.raises(DataError) as refused:
        live.snapshot(newest - 1)
    assert format_time(newest) in str(refused.value)


def test_parts_that_do_not_fit_are_refused(market: Any) -> None:
    with pytest.raises(DataError, match="mark for each"):
        LiveMarket(market.state.copy(), np.zeros(3), market.features)
    with pytest.raises(DataError, match="features at"):
        LiveMarket(market.state.copy(), np.zeros(4), market.head(100).features)


def test_context_of_the_open_step_survives_its_corrections(market: Any) -> None:
    context = np.full((START + 1, len(market.panel.symbols), EXOGENOUS_WIDTH), np.nan)
    context[:, :, FUNDING] = 1e-5
    context[START, :, FUNDING] = 7e-5
    panel = replace(market.panel.rows(0, START + 1), exogenous=context)
    whole = MarketState(panel.symbols, panel.interval).advance(panel)
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel.rows(0, START))
    live = LiveMarket(state, panel.values[START - 1, :, CLOSE], features)
    live.open_step(panel.rows(START, None), panel.values[START, :, CLOSE])
    same_bits(live.state.features, whole)
    (bar, *_) = market.bars(range(START, START + 1))
    assert statuses(post(live, [{**bar, "volume": bar["volume"] + 1.0}])) == ["corrected"]
    assert statuses(post(live, [bar])) == ["corrected"]
    same_bits(live.state.features, whole)
    assert (whole.column("funding_rate_24h")[-1] > whole.column("funding_rate_24h")[-2]).all()
