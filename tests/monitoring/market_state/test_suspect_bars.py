"""Posted bars and the price guard: a suspect bar is recorded, and then confirmed or forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketFeatures, MarketState
from features.state.point_in_time import advance_through
from ledger.records import Entry
from ledger.store import Ledger
from market.bars.history import MarketHistory, load_history
from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import CLOSE, HIGH, BarPanel
from market.core.clock import HOUR, MINUTE, format_time
from market.sources.http import BarIn, bar_updates
from market.sources.parquet import BarFolder
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarsResponse
from monitoring.market_state.steps import StepRule

START, STEPS = 200, 12
GUARD = OutlierFilter()


def post(live: LiveMarket, bars: list[dict[str, Any]], **rest: Any) -> BarsResponse:
    return live.post(
        "1h", bar_updates([BarIn(**bar) for bar in bars], rest.get("now")).updates, **rest
    )


def statuses(response: BarsResponse) -> list[str]:
    return [result.status for result in response.results]


def scaled(bar: dict[str, Any], factor: float) -> dict[str, Any]:
    return bar | {name: bar[name] * factor for name in ("open", "high", "low", "close")}


def from_history(history: MarketHistory) -> LiveMarket:
    """An endpoint's market as `pipelines.jobs.serve` starts it."""
    bars, end = history.bars, history.end
    assert end is not None
    state = MarketState(bars.symbols, bars.interval)
    features = advance_through(state, bars.rows(0, -1), history.corrections)
    received = replace(bars.rows(-len(end.recent_bars), None), values=end.recent_bars)
    live = LiveMarket(
        state,
        history.last_mark(len(bars) - 2),
        features,
        recent=received.rows(0, -1),
        outlier_filter=end.outlier_filter,
        filter_state=end.state,
        rule=StepRule(quorum=0.0),  # any bar makes its step count: quorums have their own tests
    )
    live.open_step(received.rows(-1, None), end.mark)
    return live


def features_of(history: MarketHistory) -> MarketFeatures:
    state = MarketState(history.bars.symbols, history.bars.interval)
    return advance_through(state, history.bars, history.corrections)


def same_row(live: LiveMarket, features: MarketFeatures, row: int) -> None:
    assert live.state.features is not None
    for name in ("values", "correlation", "age", "history"):
        mine = getattr(live.state.features, name)[-1]
        assert mine.tobytes() == np.ascontiguousarray(getattr(features, name)[row]).tobytes(), name


def same_moment(a: LiveMarket, b: LiveMarket) -> None:
    for name in ("mark", "mark_before", "filter_state", "filter_state_before"):
        assert getattr(a.state, name).tobytes() == getattr(b.state, name).tobytes(), name
    for part in ("head", "committed"):
        for name, array in getattr(a.state, part).arrays.items():
            assert array.tobytes() == getattr(b.state, part).arrays[name].tobytes(), name


@pytest.fixture
def guarded(market: Any) -> LiveMarket:
    """A market that ends before `START`, its newest step pending."""
    return from_history(MarketHistory.from_panel(market.panel.rows(0, START), GUARD))


def test_suspect_bar_is_recorded_and_neither_marks_nor_moves_features(
    market: Any, guarded: LiveMarket
) -> None:
    entries: list[Entry] = []
    mark = guarded.state.mark.copy()
    bars = market.bars(range(START, START + 1))
    bars[1] = scaled(bars[1], 1.5)
    response = post(guarded, bars, record=entries.append)
    assert statuses(response) == ["applied", "suspect", "applied", "applied"]
    assert "beyond the band of the outlier filter" in str(response.results[1].detail)
    assert guarded.state.suspect.tolist() == [False, True, False, False]
    assert guarded.state.mark[1] == mark[1]
    assert guarded.state.mark[0] == bars[0]["close"]
    assert guarded.state.features is not None
    assert guarded.state.features.age[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    (entry,) = entries
    assert [result["status"] for result in entry.payload["results"]].count("suspect") == 1
    assert statuses(post(guarded, [bars[1]])) == ["duplicate"]


def test_following_bar_confirms_a_crash_and_forgets_a_bad_tick(
    market: Any, guarded: LiveMarket
) -> None:
    crashed, spiked = market.bar(START, 0), market.bar(START, 1)
    post(guarded, [scaled(crashed, 0.6), scaled(spiked, 0.6)])
    after = [scaled(market.bar(START + 1, 0), 0.6), market.bar(START + 1, 1)]
    assert statuses(post(guarded, after)) == ["applied", "applied"]
    assert guarded.state.mark[:2].tolist() == [bar["close"] for bar in after]
    assert not guarded.state.suspect.any()


def test_correction_of_a_pending_bar_is_filtered_by_the_state_before_it(
    market: Any, guarded: LiveMarket
) -> None:
    before, bar = guarded.state.mark.copy(), market.bar(START, 0)
    assert statuses(post(guarded, [bar])) == ["applied"]
    assert statuses(post(guarded, [scaled(bar, 2.0)])) == ["suspect"]
    assert guarded.state.mark.tobytes() == before.tobytes(), "the first close is taken back"
    assert statuses(post(guarded, [bar])) == ["corrected"]
    assert guarded.state.mark[0] == bar["close"]


def test_bar_twice_in_one_post_is_filtered_as_it_came(market: Any, guarded: LiveMarket) -> None:
    bar = market.bar(START, 0)
    response = post(guarded, [scaled(bar, 2.0), bar, scaled(bar, 0.5)])
    assert statuses(response) == ["suspect", "corrected", "suspect"]


def test_wick_beyond_its_band_is_limited_with_a_detail(market: Any, guarded: LiveMarket) -> None:
    bar = market.bar(START, 0)
    response = post(guarded, [bar | {"high": bar["close"] * 10}])
    assert statuses(response) == ["applied"]
    assert "limited" in str(response.results[0].detail)


def test_newest_step_of_the_history_may_be_suspect_and_is_confirmed_live(market: Any) -> None:
    values = market.panel.values[:START].copy()
    values[-1, 2, :4] *= 0.6
    panel = BarPanel(
        market.panel.interval, market.panel.symbols, market.panel.opens[:START], values
    )
    history = MarketHistory.from_panel(panel, GUARD)
    live = from_history(history)
    assert live.state.suspect.tolist() == history.suspect_at(-1).tolist()
    assert live.state.suspect.tolist() == [False, False, True, False]
    assert live.state.mark[2] == values[-2, 2, CLOSE]
    same_row(live, features_of(history), -1)
    bar = market.bar(START, 2)
    assert statuses(post(live, [scaled(bar, 0.6)])) == ["applied"]
    assert live.state.mark[2] == bar["close"] * 0.6


@pytest.mark.parametrize(("missing", "status"), [(2, "suspect"), (3, "applied")])
def test_steps_without_any_bar_widen_the_band_as_in_the_batch(
    market: Any, guarded: LiveMarket, missing: int, status: str
) -> None:
    """log(1.6) is 0.47: beyond the band after three hours, within it after four."""
    row = START + missing
    close = 1.6 * float(market.panel.values[START - 1, 0, CLOSE])
    bar = market.bar(row, 0) | {"close": close}
    bar |= {"high": max(bar["high"], bar["close"])}
    assert statuses(post(guarded, [bar])) == [status]
    values = market.panel.values[: row + 1].copy()
    values[START:] = np.nan
    values[row, 0] = [bar[name] for name in ("open", "high", "low", "close", "volume")]
    batch = MarketHistory.from_panel(replace(market.panel.rows(0, row + 1), values=values), GUARD)
    same_row(guarded, features_of(batch), row)
    assert guarded.state.suspect.tolist() == batch.suspect_at(row).tolist()


def test_endpoint_names_and_counts_suspects(market: Any, guarded: LiveMarket, serve: Any) -> None:
    endpoint = serve(live=guarded)
    body = {"interval": "1h", "bars": [scaled(market.bar(START, 0), 1.5)]}
    answer = endpoint.client.post("/v1/market/bars", json=body)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["status"] == "suspect"
    figures = endpoint.client.get("/metrics").text
    assert 'margincast_bars_total{status="suspect"} 1.0' in figures


def test_market_without_a_guard_takes_any_possible_bar(market: Any) -> None:
    live = market.head(START).live()
    assert statuses(post(live, [scaled(market.bar(START, 0), 50.0)])) == ["applied"]
    assert not live.state.suspect.any()


Spikes = list[tuple[int, int, float]]
spikes = st.lists(
    st.tuples(
        st.integers(START - 3, START + STEPS - 1),
        st.integers(0, 3),
        st.sampled_from([0.5, 0.7, 1.4, 3.0]),
    ),
    max_size=10,
)


def spiked_panel(market: Any, factors: Spikes, missing: set[tuple[int, int]]) -> BarPanel:
    values = market.panel.values[: START + STEPS].copy()
    for row, column, factor in factors:
        values[row, column, :4] *= factor
        values[row, column, HIGH] *= 1.0 + factor / 3
    for row, column in missing:
        values[row, column] = np.nan
    panel: BarPanel = replace(market.panel.rows(0, START + STEPS), values=values)
    return panel


def bar_of(panel: BarPanel, row: int, column: int) -> dict[str, Any]:
    names = ("open", "high", "low", "close", "volume")
    values = dict(zip(names, panel.values[row, column].tolist(), strict=True))
    ts = format_time(int(panel.opens[row]))
    return {"symbol": panel.symbols[column], "ts": ts, **values}


@settings(max_examples=30)
@given(
    factors=spikes,
    missing=st.sets(
        st.tuples(st.integers(START, START + STEPS - 2), st.integers(0, 3)), max_size=8
    ),
)
def test_posted_bars_with_spikes_equal_the_batch_to_the_bit(
    market: Any, factors: Spikes, missing: set[tuple[int, int]]
) -> None:
    panel = spiked_panel(market, factors, missing)
    batch = MarketHistory.from_panel(panel, GUARD)
    features = features_of(batch)
    live = from_history(MarketHistory.from_panel(panel.rows(0, START), GUARD))
    for row in range(START, START + STEPS):
        there = [s for s in range(4) if not np.isnan(panel.values[row, s, CLOSE])]
        if not there:
            continue
        response = post(live, [bar_of(panel, row, s) for s in there])
        missed = np.isnan(batch.bars.values[row, there, CLOSE])
        dropped = [status in ("suspect", "rejected") for status in statuses(response)]
        assert dropped == missed.tolist()
        same_row(live, features, row)
        assert live.state.mark.tobytes() == batch.last_mark(row).tobytes()
        assert live.state.suspect.tolist() == batch.suspect_at(row).tolist()
        mine, theirs = live.state.suspect_bars, batch.suspect_bars_at(row)
        assert (mine is None) == (theirs is None)
        for here, there_ in zip(mine or (), theirs or (), strict=True):
            assert here.tobytes() == there_.tobytes()


@settings(max_examples=10)
@given(factors=spikes, cut=st.integers(0, 4 * STEPS))
def test_replay_from_the_ledger_gives_the_same_state_to_the_bit(
    market: Any, factors: Spikes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    panel = spiked_panel(market, factors, set())
    start = MarketHistory.from_panel(panel.rows(0, START), GUARD)
    live, restarted = from_history(start), from_history(start)
    bars = [bar_of(panel, row, s) for row in range(START, START + STEPS) for s in range(4)]
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    with Ledger(url) as ledger:
        for part in (bars[:cut], bars[cut:]):
            if part:
                post(live, part, record=lambda entry: ledger.append([entry]))
        restarted.recover(ledger)
    same_moment(live, restarted)


def _write(folder: Path, panel: BarPanel, versions: list[tuple[int, int, int, float]]) -> BarFolder:
    """The first version of each bar known at its close, and others after it."""
    stamp = pa.timestamp("ns", tz="UTC")
    for s, symbol in enumerate(panel.symbols):
        own = [version for version in versions if version[1] == s]
        rows = [*range(len(panel)), *(row for row, *_ in own)]
        values = panel.values[rows, s].copy()
        known = panel.closes[rows].copy()
        for i, (_, _, after, factor) in enumerate(own, start=len(panel)):
            values[i, :4] *= factor
            known[i] += after
        columns = dict(zip(("open", "high", "low", "close", "volume"), values.T, strict=True))
        times = {"ts": pa.array(panel.opens[rows], stamp), "known_at": pa.array(known, stamp)}
        pq.write_table(pa.table({**times, **columns}), folder / f"{symbol}.parquet")
    return BarFolder(folder)


@settings(max_examples=15)
@given(
    corrections=st.lists(
        st.tuples(
            st.integers(START, START + STEPS - 1),
            st.integers(0, 3),
            st.integers(1, 150).map(lambda minutes: minutes * MINUTE),
            st.sampled_from([0.6, 0.95, 1.02, 1.5]),
        ),
        max_size=8,
        unique_by=lambda version: version[:3],
    )
)
def test_posts_in_order_of_knowledge_equal_the_batch_of_the_same_versions(
    market: Any,
    corrections: list[tuple[int, int, int, float]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    panel = market.panel.rows(0, START + STEPS)
    folder = _write(tmp_path_factory.mktemp("versions"), panel, corrections)
    batch = load_history([folder], panel.interval, outlier_filter=GUARD)
    features = features_of(batch)
    live = from_history(MarketHistory.from_panel(panel.rows(0, START), GUARD))
    # A correction that was known at a close comes after the bars that closed then.
    later = sorted(corrections, key=lambda version: int(panel.closes[version[0]]) + version[2])
    for row in range(START, START + STEPS):
        close = int(panel.closes[row])
        post(live, [bar_of(panel, row, s) for s in range(4)])
        same_row(live, features, row)
        assert live.state.mark.tobytes() == batch.last_mark(row).tobytes()
        for earlier, s, after, factor in later:
            known = int(panel.closes[earlier]) + after
            if close <= known < close + HOUR:
                (status,) = statuses(post(live, [scaled(bar_of(panel, earlier, s), factor)]))
                assert status == "duplicate" or (status == "late") == (earlier < row)
