"""When a step of the live market counts, what joins it later, and what is a correction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions.messages import BarIn, BarsResponse
from features.state.market_state import MarketState
from features.state.snapshot import MarketSnapshot
from ledger.records import Entry
from ledger.store import Ledger
from market.bars.history import MarketHistory
from market.bars.outlier_filter import PriceGuard, new_state
from market.bars.panel import CLOSE, CONTEXT_WIDTH, FUNDING, VOLUME, BarPanel
from market.core.clock import DAY, HOUR, SECOND, format_time
from market.core.errors import ConfigError, LedgerError
from monitoring.market_state import live_steps
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.live_steps import StepRule
from monitoring.market_state.posted_bars import Correction
from monitoring.quotes.messages import QuoteIn

START = 220
ADMIN = Correction("admin")


def post(live: LiveMarket, bars: list[dict[str, Any]], **rest: Any) -> BarsResponse:
    return live.post("1h", [BarIn(**bar) for bar in bars], **rest)


def statuses(response: BarsResponse) -> list[str]:
    return [result.status for result in response.results]


def column(market: Any, rows: range, symbol: int) -> list[dict[str, Any]]:
    return [market.bar(row, symbol) for row in rows]


def at(market: Any, row: int) -> int:
    return int(market.panel.closes[row])


def same(a: LiveMarket, b: LiveMarket) -> None:
    """Everything that a later bar or decision can depend on."""
    one, two = a.moment, b.moment
    for part in ("committed", "head"):
        same_state(getattr(one, part), getattr(two, part))
    for name in ("mark", "mark_before", "guard", "guard_before"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    assert one.closed == two.closed
    for name in ("told", "corrections"):
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
        same_state(left.state, right.state)
    for left, right in zip(one.ahead, two.ahead, strict=True):
        assert left.close == right.close
        assert left.mark.tobytes() == right.mark.tobytes()


def same_state(a: MarketState, b: MarketState) -> None:
    assert a.last_open == b.last_open
    for name, array in a.arrays.items():
        assert array.tobytes() == b.arrays[name].tobytes(), name


def equals_batch(live: LiveMarket, market: Any, values: Any, context: Any = None) -> None:
    """The live market after `START` is that of the batch over these bars, to the last bit."""
    rows, symbols = len(values), market.panel.symbols
    panel = BarPanel(market.panel.interval, symbols, market.panel.opens[:rows], values, context)
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel)
    same_state(live.moment.head, state)
    assert live.moment.features is not None
    for name in ("values", "correlation", "fast_correlation", "age", "history", "seen"):
        mine = getattr(live.moment.features, name)[-1]
        assert mine.tobytes() == np.ascontiguousarray(getattr(features, name)[-1]).tobytes(), name
    closes = values[:, :, CLOSE]
    last = rows - 1 - np.argmax(~np.isnan(closes[::-1]), axis=0)
    assert live.moment.mark.tobytes() == closes[last, np.arange(closes.shape[1])].tobytes()


def test_one_bar_six_days_ahead_moves_nothing_of_the_others(market: Any) -> None:
    live, other = market.head(START).live(), market.head(START).live()
    early = market.bar(0, 0) | {"ts": format_time(at(market, START - 1) + 6 * DAY)}
    response = post(live, [early])
    assert statuses(response) == ["applied"]
    assert "waits for a quorum: 1 of 3 bars" in str(response.results[0].detail)
    assert response.as_of == format_time(at(market, START - 1))
    snapshot = live.snapshot(at(market, START - 1))
    assert snapshot.content() == other.snapshot(at(market, START - 1)).content()
    # The market goes on step by step, and nothing is late.
    for row in range(START, START + 6):
        for each in (live, other):
            assert set(statuses(post(each, market.bars(range(row, row + 1))))) == {"applied"}
    same_state(live.moment.head, other.moment.head)
    assert live.snapshot(at(market, START + 5)).usable().all()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_recovery_of_one_symbol_after_another_loses_no_bar(
    market: Any, order: tuple[int, ...]
) -> None:
    live, rows = market.head(START).live(), range(START, START + 6)
    for symbol in order:
        assert statuses(post(live, column(market, rows, symbol))) == ["applied"] * 6
    equals_batch(live, market, market.panel.values[: START + 6])


def test_newest_hour_before_the_hours_of_an_outage_loses_no_bar(market: Any) -> None:
    live = market.head(START).live()
    post(live, market.bars(range(START + 5, START + 6)))
    assert live.newest_close == at(market, START + 5)
    missed = market.bars(range(START, START + 5))
    assert statuses(post(live, missed[::-1])) == ["applied"] * len(missed)
    equals_batch(live, market, market.panel.values[: START + 6])


def test_step_counts_with_more_than_half_and_each_further_bar_at_once(market: Any) -> None:
    live = market.head(START).live()
    bars = market.bars(range(START, START + 1))
    newest = [post(live, [bar]).as_of for bar in bars]
    before, after = format_time(at(market, START - 1)), format_time(at(market, START))
    assert newest == [before, before, after, after]
    assert live.moment.mark.tolist() == [bar["close"] for bar in bars]


@pytest.mark.parametrize(
    ("quorum", "live", "needed"),
    [(0.5, 1, 1), (0.5, 2, 2), (0.5, 3, 2), (0.5, 4, 3), (0.0, 9, 1), (1.0, 4, 4), (0.29, 100, 30)],
)
def test_quorum_is_more_than_its_share_of_the_live_symbols(
    quorum: float, live: int, needed: int
) -> None:
    assert StepRule(quorum).needed(live) == needed


def test_rule_refuses_what_cannot_be() -> None:
    for odd in ({"quorum": 1.5}, {"quorum": float("nan")}, {"grace": -1}):
        with pytest.raises(ConfigError):
            StepRule(**odd)  # type: ignore[arg-type]


def test_halted_symbols_drop_out_of_the_quorum(market: Any) -> None:
    live = market.head(START).live(StepRule(quorum=0.7))
    for row, final in ((START, True), (START + 1, True), (START + 2, True), (START + 3, False)):
        post(live, [market.bar(row, 0), market.bar(row, 1)], final=final)
    # After three steps the others are no longer asked, so two of two are a quorum.
    assert live.newest_close == at(market, START + 3)
    assert live.moment.live.tolist() == [True, True, False, False]


def test_symbols_that_come_back_count_after_those_that_stopped(market: Any) -> None:
    live = market.head(START).live()
    post(live, [market.bar(START + 6, 0)], final=True)
    assert live.moment.live.tolist() == [True, False, False, False]
    post(live, [market.bar(START + 7, 1)])
    assert live.newest_close == at(market, START + 7)


def test_grace_lets_a_step_count_on_the_wall_clock_only(market: Any) -> None:
    live, bar = market.head(START).live(), market.bar(START, 0)
    now = at(market, START) + SECOND
    entries: list[Entry] = []
    response = post(live, [bar], now=now, record=entries.append)
    assert "until the grace is over" in str(response.results[0].detail)
    live.count_due(now + 59 * SECOND, entries.append)
    assert live.newest_close == at(market, START - 1)
    live.count_due(now + 60 * SECOND, entries.append)
    assert live.newest_close == at(market, START)
    assert [entry.payload["steps"] for entry in entries] == [
        [],
        [{"ts": bar["ts"], "reason": "grace", "symbols": [bar["symbol"]]}],
    ]
    # What comes after the grace still joins.
    rest = market.bars(range(START, START + 1))[1:]
    assert statuses(post(live, rest, now=now + 2 * HOUR)) == ["applied"] * 3
    equals_batch(live, market, market.panel.values[: START + 1])


def test_steps_that_cannot_be_recorded_do_not_count(market: Any) -> None:
    live, now = market.head(START).live(), at(market, START)

    def refuse(_: Entry) -> None:
        raise LedgerError("full")

    post(live, [market.bar(START, 0)], now=now)
    before = live.moment
    with pytest.raises(LedgerError):
        live.count_due(now + HOUR, refuse)
    assert live.moment is before


def test_bar_that_waits_marks_its_symbol_from_its_close_on(market: Any) -> None:
    live, bar = market.head(START).live(), market.bar(START, 0)
    known = live.moment.mark.copy()
    post(live, [bar])
    close = at(market, START)
    assert live.snapshot(close - 1).mark.tobytes() == known.tobytes()
    later = live.snapshot(close + HOUR // 2)
    assert later.mark.tolist() == [bar["close"], *known[1:].tolist()]
    assert later.view().age_hours.tolist() == [0.5, 1.5, 1.5, 1.5]
    # The features, and how old they are, are those of the newest step that counts.
    assert later.features.age[0].tolist() == [1.5, 1.5, 1.5, 1.5]
    replayed = MarketSnapshot.from_content(later.content())
    assert replayed.view().age_hours.tolist() == later.view().age_hours.tolist()
    assert live.moment.features is not None
    assert later.features.values.tobytes() == live.moment.features.values.tobytes()


def test_bar_that_waits_is_filtered_as_it_comes(market: Any) -> None:
    head = market.head(START)
    guard_state = new_state(4)
    guard_state[:, 0] = head.panel.values[-1, :, CLOSE]
    live = LiveMarket(
        head.state.copy(),
        head.history.last_mark(-1),
        head.features,
        head.panel,
        PriceGuard(),
        guard_state,
    )
    bar = market.bar(START, 0)
    bad = bar | {name: bar[name] * 1.6 for name in ("open", "high", "low", "close")}
    response = post(live, [bad])
    assert statuses(response) == ["suspect"]
    assert "waits for a quorum" in str(response.results[0].detail)
    seen = live.snapshot(at(market, START))
    assert seen.suspect.tolist() == [True, False, False, False]
    assert seen.mark[0] == head.panel.values[-1, 0, CLOSE]
    assert statuses(post(live, [bar])) == ["corrected"]
    assert not live.snapshot(at(market, START)).suspect.any()


def test_bar_that_comes_twice_in_one_request_is_replaced_in_a_waiting_step(market: Any) -> None:
    live, bar = market.head(START).live(), market.bar(START, 0)
    response = post(live, [bar | {"volume": 1.0}, bar, bar])
    assert statuses(response) == ["applied", "corrected", "duplicate"]
    assert "replaced by a later one" in str(response.results[0].detail)
    post(live, market.bars(range(START, START + 1))[1:])
    equals_batch(live, market, market.panel.values[: START + 1])


def test_final_request_counts_and_closes_its_steps_and_those_before(market: Any) -> None:
    live = market.head(START).live()
    first = post(live, [market.bar(START + 1, 0)], final=True)
    assert first.as_of == format_time(at(market, START + 1))
    late = [market.bar(START, 0), market.bar(START + 1, 1)]
    response = post(live, late)
    assert statuses(response) == ["late", "late"]
    assert '"correct": true' in str(response.results[0].detail)
    values = market.panel.values[: START + 2].copy()
    values[START:] = np.nan
    values[START + 1, 0] = market.panel.values[START + 1, 0]
    equals_batch(live, market, values)


def test_final_request_with_known_bars_only_counts_and_is_recorded(
    market: Any, ledger: Ledger
) -> None:
    live, restarted = market.head(START).live(), market.head(START).live()

    def record(entry: Entry) -> None:
        ledger.append([entry])

    post(live, [market.bar(START, 0)], record=record)
    response = post(live, [market.bar(START, 0)], final=True, record=record)
    assert statuses(response) == ["duplicate"]
    assert live.newest_close == at(market, START)
    restarted.catch_up(ledger)
    same(live, restarted)


def test_bar_of_an_older_step_is_not_replaced_without_a_correction(market: Any) -> None:
    live = market.head(START).live()
    post(live, market.bars(range(START, START + 2)))
    other = market.bar(START, 0) | {"volume": 1.0}
    assert statuses(post(live, [other])) == ["late"]
    equals_batch(live, market, market.panel.values[: START + 2])


def test_correction_counts_from_the_next_step_as_in_the_batch(market: Any, ledger: Ledger) -> None:
    live, restarted = market.head(START).live(), market.head(START).live()

    def record(entry: Entry) -> None:
        ledger.append([entry])

    post(live, market.bars(range(START, START + 3)), final=True, record=record)
    decided = live.snapshot(at(market, START + 2)).content()
    changed = market.bar(START, 0)
    changed |= {"close": changed["low"], "volume": 5.0}
    newest = market.bar(START + 2, 1) | {"volume": 7.0}
    response = post(live, [changed, newest], correction=ADMIN, record=record)
    assert statuses(response) == ["corrected", "corrected"]
    assert "from the next step" in str(response.results[0].detail)
    assert live.snapshot(at(market, START + 2)).content() == decided
    assert statuses(post(live, [changed], correction=ADMIN, record=record)) == ["duplicate"]
    restarted.catch_up(ledger)
    same(live, restarted)
    for each in (live, restarted):
        post(each, market.bars(range(START + 3, START + 4)), record=record)
        values = market.panel.values[: START + 4].copy()
        values[START, 0, CLOSE] = changed["close"]
        values[START, 0, VOLUME] = 5.0
        values[START + 2, 1, VOLUME] = 7.0
        equals_batch(each, market, values)
    records = list(ledger.records("bars"))
    assert records[1].payload["correction"] == {"author": "admin"}
    reasons = [step["reason"] for step in records[2].payload["steps"]]
    assert reasons == ["correction", "correction", "quorum"]


def test_correction_brings_a_bar_that_a_final_step_lacks_and_its_mark(market: Any) -> None:
    live = market.head(START).live()
    post(live, market.bars(range(START, START + 1))[1:], final=True)
    mark = live.moment.mark[0]
    bar = market.bar(START, 0)
    assert statuses(post(live, [bar])) == ["late"]
    assert statuses(post(live, [bar], correction=ADMIN)) == ["corrected"]
    assert live.moment.mark[0] == mark
    post(live, market.bars(range(START + 1, START + 2))[1:])
    assert live.moment.mark[0] == bar["close"]


def test_correction_older_than_the_kept_steps_stays_late_and_says_what_to_do(market: Any) -> None:
    live = market.head(START).live()
    response = post(live, [market.bar(START - 1, 0) | {"volume": 1.0}], correction=ADMIN)
    assert statuses(response) == ["late"]
    assert "bar files" in str(response.results[0].detail)
    assert live.moment.corrections == {}


def test_no_more_steps_wait_than_are_kept(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_steps, "KEPT_STEPS", 5)
    live = market.head(START).live()
    response = post(live, column(market, range(START, START + 8), 0))
    assert statuses(response) == ["applied"] * 5 + ["rejected"] * 3
    assert '"final": true' in str(response.results[-1].detail)
    # A step that counts at once needs no room.
    assert set(statuses(post(live, market.bars(range(START + 8, START + 9))))) == {"applied"}
    assert not live.moment.waiting


def test_kept_steps_are_bounded_and_older_ones_are_late(
    market: Any, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    kept = 4
    monkeypatch.setattr(live_steps, "KEPT_STEPS", kept)
    live, restarted = market.head(START - 20).live(), market.head(START - 20).live()
    lacking, present = 3, slice(0, 3)
    for row in range(START - 20, START + 20):
        post(
            live,
            market.bars(range(row, row + 1))[present],
            record=lambda entry: ledger.append([entry]),
        )
        assert len(live.moment.steps) <= 2 * kept
        assert len(live.moment.checkpoints) <= 2
        if row >= START:
            oldest, newest = live.moment.oldest_kept, live.moment.head.last_open
            assert oldest is not None
            assert newest is not None
            assert kept <= (newest - oldest) // HOUR < 2 * kept
    values = market.panel.values[: START + 20].copy()
    values[START - 20 :, lacking] = np.nan
    equals_batch(live, market, values)
    recovered = range(START + 20 - kept, START + 20)
    assert statuses(post(live, column(market, recovered, lacking))) == ["applied"] * kept
    values[recovered.start :, lacking] = market.panel.values[recovered.start : START + 20, lacking]
    equals_batch(live, market, values)
    assert statuses(post(live, [market.bar(START, lacking)])) == ["late"]
    restarted.catch_up(ledger)
    post(restarted, column(market, recovered, lacking))
    post(restarted, [market.bar(START, lacking)])
    same(live, restarted)


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
                live.catch_up(ledger)
                same(before, live)
        row, symbol = there[-1]
        assert statuses(post(live, [market.bar(row, symbol)], final=True, record=record)) == [
            "duplicate"
        ]
        values = market.panel.values[: START + steps].copy()
        for row, symbol in missing:
            values[row, symbol] = np.nan
        equals_batch(live, market, values)
        again = start.live()
        again.catch_up(ledger)
        same(live, again)


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
    batch = MarketHistory.from_panel(panel, PriceGuard())
    history = MarketHistory.from_panel(market.panel.rows(0, START + 1), PriceGuard())
    assert history.end is not None
    head = market.head(START)
    live = LiveMarket(
        head.state.copy(),
        head.history.last_mark(-1),
        head.features,
        head.panel,
        PriceGuard(),
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
    same_state(live.moment.head, state)
    assert live.moment.features is not None
    assert live.moment.features.values[-1].tobytes() == features.values[-1].tobytes()
    assert live.moment.mark.tobytes() == batch.last_mark(-1).tobytes()
    assert live.moment.suspect.tolist() == batch.suspect_at(-1).tolist()


def bar_of(panel: BarPanel, row: int, column: int) -> dict[str, Any]:
    names = ("open", "high", "low", "close", "volume")
    values = dict(zip(names, panel.values[row, column].tolist(), strict=True))
    ts = format_time(int(panel.opens[row]))
    return {"symbol": panel.symbols[column], "ts": ts, **values}


@pytest.mark.parametrize("saved_every", [1, 10_000])
def test_recovery_keeps_what_quotes_told_of_each_step(
    market: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, saved_every: int
) -> None:
    monkeypatch.setattr("monitoring.market_state.live_market.SAVED_EVERY", saved_every)
    live, restarted = market.head(START).live(), market.head(START).live()
    rows = range(START, START + 6)
    context = np.full((START + 6, 4, CONTEXT_WIDTH), np.nan)

    def funding(row: int, symbol: int, rate: float) -> None:
        context[row, symbol, FUNDING] = rate
        told = QuoteIn(
            f"{market.panel.symbols[symbol]}-PERP",
            format_time(int(market.panel.opens[row]) + 60 * SECOND),
            funding=rate,
            interval_hours=1.0,
        )
        (result,) = live.post_quotes([told], record=ledger.append).results
        assert result.status == "applied"

    for row in rows:
        funding(row, row % 4, 1e-5 * row)
    for symbol in range(3):
        post(live, column(market, rows, symbol), record=lambda entry: ledger.append([entry]))
    funding(START + 5, 3, 3e-4)  # of the newest step, which counts already
    post(live, column(market, rows, 3), record=lambda entry: ledger.append([entry]))
    equals_batch(live, market, market.panel.values[: START + 6], context)
    restarted.catch_up(ledger)
    same(live, restarted)
    post(live, market.bars(range(START + 6, START + 7)))
    post(restarted, market.bars(range(START + 6, START + 7)))
    same(live, restarted)


def test_early_bar_is_found_again_by_a_restart_from_a_later_history(
    market: Any, ledger: Ledger
) -> None:
    live = market.head(START).live()
    early = market.bar(START + 6, 0)
    post(live, [early], record=lambda entry: ledger.append([entry]))
    later = market.head(START + 3).live()
    later.catch_up(ledger)
    assert list(later.moment.waiting) == [int(market.panel.opens[START + 6])]
    assert later.newest_close == at(market, START + 2)


def test_records_of_earlier_versions_count_as_they_did(market: Any, ledger: Ledger) -> None:
    """Then the first bar of a step made it count, and ended the step before."""
    posts = [
        ([market.bar(START, 0)], ["applied"]),
        ([market.bar(START + 2, 0), market.bar(START + 2, 1)], ["applied", "applied"]),
        ([market.bar(START, 1)], ["late"]),
    ]
    for bars, results in posts:
        told = [
            {"symbol": bar["symbol"], "ts": bar["ts"], "status": status}
            for bar, status in zip(bars, results, strict=True)
        ]
        payload = {"interval": "1h", "bars": bars, "results": told}
        ledger.append([Entry("bars", payload, as_of=at(market, START + 2))])
    live = market.head(START).live()
    assert live.catch_up(ledger) == 3
    values = market.panel.values[: START + 3].copy()
    values[START:] = np.nan
    for row, symbol in ((START, 0), (START + 2, 0), (START + 2, 1)):
        values[row, symbol] = market.panel.values[row, symbol]
    equals_batch(live, market, values)


def test_market_without_history_takes_bars_in_any_order(market: Any) -> None:
    state = MarketState(market.panel.symbols, market.panel.interval)
    live = LiveMarket(state, np.full(4, np.nan), None)
    for symbol in (2, 0, 1, 3):
        assert statuses(post(live, column(market, range(6), symbol))) == ["applied"] * 6
    equals_batch(live, market, market.panel.values[:6])


def test_newest_step_of_the_history_takes_bars_that_it_lacks(market: Any) -> None:
    live = market.head(START).live()
    values = market.panel.values[START : START + 1].copy()
    values[0, 2] = np.nan
    newest = replace(market.panel.rows(START, START + 1), values=values)
    live.open_step(newest, np.where(np.isnan(values[0, :, CLOSE]), 1.5, values[0, :, CLOSE]))
    assert live.moment.mark[2] == 1.5
    post(live, market.bars(range(START + 1, START + 2)))
    assert statuses(post(live, [market.bar(START, 2)])) == ["applied"]
    equals_batch(live, market, market.panel.values[: START + 2])
