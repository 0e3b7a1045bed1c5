"""What the ledger records of steps: batch jobs and restarts see the market that the endpoint saw.

Hazards: a suspect close that quoted marks confirmed is held back again; bars that only the
endpoint was given, corrections and bars that joined an older step are lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from decisions.decision import decide
from decisions.messages import Decision
from features.state.market_state import MarketFeatures, MarketState
from features.state.point_in_time import advance_through
from features.state.snapshot import MarketSnapshot
from ledger.records import Entry
from ledger.store import Ledger
from margin.rules.ruleset import load_ruleset
from market.accounts.book import Account, Position
from market.bars.history import MarketHistory
from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import BarPanel
from market.bars.recorded_rows import RecordedSource
from market.core.clock import MINUTE, Interval, format_time
from market.simulator.simulated_market import simulate_bars
from market.sources.base import BarUpdate
from market.sources.http import QuoteIn, quote_updates
from monitoring.market_state.bar_updates import Correction
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.steps import StepRule
from monitoring.recovery.recorded_quotes import recorded_quotes
from monitoring.recovery.recorded_steps import rows_before_the_newest, rows_known_at
from pipelines.jobs.serve import market_of

START = 220
GUARD = OutlierFilter()
CASH = frozenset({"USDT"})
BTC, PERP = "BTCUSDT", "BTCUSDT-PERP"
RULE = StepRule(quorum=0.5)
PANEL = simulate_bars(5, 11, 4, Interval.parse("1h"))


class Feed:
    """An endpoint's market that follows a panel and records what it is given."""

    def __init__(self, panel: BarPanel, ledger: Ledger, rows: int = START) -> None:
        self.panel, self.ledger = panel, ledger
        self.live = self._from_files(rows)

    def _from_files(self, rows: int, recorded: RecordedSource | None = None) -> LiveMarket:
        history = self._history(self.panel.rows(0, rows), recorded)
        state = MarketState(history.bars.symbols, history.bars.interval)
        return market_of(history, state, RULE)

    def _history(self, files: BarPanel, recorded: RecordedSource | None) -> MarketHistory:
        # A copy: what was posted must not get into the panel of the next history.
        files = replace(files, values=files.values.copy())
        rows = None if recorded is None else recorded(files.symbols, files.interval, files.opens)
        return MarketHistory.from_panel(files, GUARD, rows)

    @property
    def newest(self) -> int:
        newest = self.live.newest_close
        assert newest is not None
        return newest

    def bar(self, row: int, column: int = 0, factor: float = 1.0) -> BarUpdate:
        prices = self.panel.values[row, column].copy()
        prices[:4] *= factor
        opens = int(self.panel.opens[row])
        return BarUpdate(self.panel.symbols[column], opens, tuple(prices.tolist()))

    def post(self, *bars: BarUpdate, correct: bool = False, final: bool = False) -> list[str]:
        author = Correction("key-1") if correct else None
        answer = self.live.post(
            "1h", bars, final=final, correction=author, record=lambda e: self.ledger.append([e])
        )
        return [result.status for result in answer.results]

    def post_row(self, row: int, but: tuple[int, ...] = ()) -> list[str]:
        columns = [c for c in range(len(self.panel.symbols)) if c not in but]
        return self.post(*(self.bar(row, column) for column in columns))

    def quote(self, name: str, ts: int, mark: float, **rest: Any) -> str:
        def record(entries: Any) -> None:
            self.ledger.append(list[Entry](entries))

        quote = QuoteIn(name, format_time(ts), mark=mark, **rest)
        answer = self.live.post_quotes(
            quote_updates([quote]).updates, cash_assets=CASH, record=record
        )
        return answer.results[0].status

    def batch(self, rows: int) -> MarketSnapshot:
        """The market that `margincast score` sees now, from files of so many rows."""
        history = self._history(self.panel.rows(0, rows), rows_known_at(self.ledger, self.newest))
        state = MarketState(history.bars.symbols, history.bars.interval)
        features = advance_through(state, history.bars, history.corrections)
        quotes = recorded_quotes(self.ledger, history.bars.symbols, CASH, self.newest)
        return MarketSnapshot.of_history(history, features, self.newest, quotes)

    def restarted(self, rows: int) -> LiveMarket:
        """The endpoint's market after a restart from files of so many rows."""
        live = self._from_files(rows, rows_before_the_newest(self.ledger))
        live.recover(self.ledger, CASH)
        return live


def crash(panel: BarPanel, row: int = START, factor: float = 0.65) -> BarPanel:
    values = panel.values.copy()
    values[row:, 0, :4] *= factor
    return replace(panel, values=values)


def assert_same_market(found: MarketSnapshot, live: MarketSnapshot) -> None:
    def rows(features: MarketFeatures) -> list[Any]:
        return [features.values[0], features.age[0], features.correlation[0], features.bar_hours[0]]

    for a, b in zip(rows(found.features), rows(live.features), strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert np.array_equal(found.mark, live.mark, equal_nan=True)
    assert found.suspect.tolist() == live.suspect.tolist()
    assert found.quotes == live.quotes


def decided(snapshot: MarketSnapshot, price: float) -> list[Decision]:
    rules = load_ruleset("linear-tiers")
    accounts = [
        Account(f"a{quantity}", 0.9 * price, (Position(PERP, quantity, price),))
        for quantity in (1.0, -1.0)
    ]
    answers = [decide([account], snapshot, rules, None, {})[0] for account in accounts]
    return [answer for answer in answers if isinstance(answer, Decision)]


def test_bar_that_a_mark_confirmed_is_good_in_the_batch(market: Any, ledger: Ledger) -> None:
    feed = Feed(crash(market.panel), ledger)
    price = float(feed.live.state.mark[0])
    for name in (PERP, BTC):
        feed.quote(name, feed.newest + 20 * MINUTE, 0.65 * price)
    for row in (220, 221, 222):
        assert feed.post_row(row) == ["applied"] * 4
        live, batch = feed.live.snapshot(feed.newest), feed.batch(row + 1)
        assert not batch.suspect[0]
        assert_same_market(batch, live)
        assert decided(batch, price) == decided(live, price)


def test_mark_quoted_after_the_bar_confirms_it_in_the_batch_not_before(
    market: Any, ledger: Ledger
) -> None:
    feed = Feed(crash(market.panel), ledger)
    price = float(feed.live.state.mark[0])
    assert feed.post_row(220)[0] == "suspect"
    assert feed.batch(221).suspect[0]
    feed.quote(PERP, feed.newest, 0.65 * price)
    assert not feed.live.snapshot(feed.newest).suspect[0]
    assert_same_market(feed.batch(221), feed.live.snapshot(feed.newest))


def test_restart_from_newer_files_keeps_what_marks_confirmed(market: Any, ledger: Ledger) -> None:
    feed = Feed(crash(market.panel), ledger)
    price = float(feed.live.state.mark[0])
    feed.quote(PERP, feed.newest + 50 * MINUTE, 0.65 * price)
    for row in (220, 221, 222, 223):
        assert feed.post_row(row)[0] == "applied"
    live = feed.live.snapshot(feed.newest)
    for rows in (220, 221, 222, 224):
        assert_same_market(feed.restarted(rows).snapshot(feed.newest), live)


def test_quote_that_a_bar_confirmed_keeps_its_mark_after_a_restart(
    market: Any, ledger: Ledger
) -> None:
    feed = Feed(crash(market.panel), ledger)
    price = float(feed.live.state.mark[0])
    assert feed.quote(PERP, feed.newest + 50 * MINUTE, 0.65 * price) == "suspect"
    for row in (220, 221, 222):
        feed.post_row(row)
    known = feed.live.snapshot(feed.newest).quotes
    assert known is not None
    assert known.instruments[PERP].mark == 0.65 * price
    again = feed._from_files(223)  # the history alone, without the rows that the ledger holds
    again.recover(ledger, CASH)
    assert again.snapshot(feed.newest).quotes == known


@pytest.mark.parametrize("rows", [220, 222, 224, 225])
def test_correction_survives_a_restart_from_files_as_first_posted(
    market: Any, ledger: Ledger, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(market.panel, ledger)
    for row in (220, 221, 222, 223):
        feed.post_row(row)
    assert feed.post(feed.bar(221, factor=0.97), correct=True) == ["corrected"]
    feed.post_row(224)
    again = feed.restarted(rows)
    assert_same_market(again.snapshot(feed.newest), feed.live.snapshot(feed.newest))
    assert not caplog.messages
    assert_same_market(feed.batch(rows), feed.live.snapshot(feed.newest))


@pytest.mark.parametrize("rows", [220, 222, 223])
def test_bar_that_joined_an_older_step_survives_a_restart(
    market: Any, ledger: Ledger, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = market.panel.values.copy()
    feed = Feed(replace(market.panel, values=values), ledger)
    feed.post_row(220, but=(0,))
    for row in (221, 222):
        feed.post_row(row)
    assert feed.post(feed.bar(220)) == ["applied"]
    live = feed.live.snapshot(feed.newest)
    values[220, 0] = np.nan  # the files lack it
    assert_same_market(feed.restarted(rows).snapshot(feed.newest), live)
    assert_same_market(feed.batch(rows), live)
    assert not caplog.messages


def test_correction_waits_for_the_next_step_in_the_batch_as_well(
    market: Any, ledger: Ledger
) -> None:
    feed = Feed(market.panel, ledger)
    for row in (220, 221, 222):
        feed.post_row(row)
    before = feed.live.snapshot(feed.newest)
    feed.post(feed.bar(221, factor=0.97), correct=True)
    assert_same_market(feed.batch(223), before)
    feed.post_row(223)
    assert_same_market(feed.batch(224), feed.live.snapshot(feed.newest))


def test_recorded_bars_that_a_history_cannot_take_are_named(
    market: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(market.panel, ledger)
    for row in (220, 221, 222, 223):
        feed.post_row(row)
    feed.post(feed.bar(221, factor=0.97), correct=True)
    feed._from_files(224).recover(ledger, CASH)  # without the rows that the ledger holds
    (message,) = caplog.messages
    assert f"{BTC} {format_time(int(feed.panel.opens[221]))} (corrected)" in message
    assert "put bars into the bar files" in message


def test_merely_posted_bar_gives_way_to_the_files(market: Any, ledger: Ledger) -> None:
    feed = Feed(market.panel, ledger)
    feed.post(*(feed.bar(220, column, 1.01) for column in range(4)))
    feed.post_row(221)
    source = rows_known_at(ledger, feed.newest)
    history = feed._history(feed.panel.rows(0, 222), source)
    assert history.recorded is not None
    assert (history.recorded.differing, history.recorded.filled) == (4, 0)
    assert np.array_equal(history.bars.values, market.panel.values[:222])


def test_later_entries_are_unknown_at_an_earlier_time(market: Any, ledger: Ledger) -> None:
    feed = Feed(market.panel, ledger)
    feed.post_row(220, but=(0,))
    early, at = feed.live.snapshot(feed.newest), feed.newest
    feed.post_row(221)
    feed.post(feed.bar(220))
    history = feed._history(feed.panel.rows(0, START), rows_known_at(ledger, at))
    state = MarketState(history.bars.symbols, history.bars.interval)
    features = advance_through(state, history.bars, None)
    assert_same_market(MarketSnapshot.of_history(history, features, at), early)


def test_ledger_without_bars_or_quotes_gives_no_rows(market: Any, ledger: Ledger) -> None:
    panel = market.panel
    for source in (rows_known_at(ledger, int(panel.closes[-1])), rows_before_the_newest(ledger)):
        assert source(panel.symbols, panel.interval, panel.opens) is None


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["step", "short step", "join", "correct", "replace", "mark", "funding"]),
        st.integers(0, 3),
        st.integers(-90, 90),
        st.sampled_from([0.6, 0.65, 0.97, 1.0, 1.02]),
    ),
    min_size=3,
    max_size=14,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(actions=_ACTIONS, crash_at=st.integers(START, START + 4), files=st.integers(0, 6))
def test_batch_and_restart_equal_the_endpoint_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, actions: Any, crash_at: int, files: int
) -> None:
    panel = crash(PANEL, crash_at)
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    with Ledger(url, chain="serving") as ledger:
        feed, row = Feed(panel, ledger), START
        price = float(feed.live.state.mark[0])
        missing: list[tuple[int, int]] = []
        lacking: list[tuple[int, int]] = []
        quoted: dict[str, int] = {}
        for what, column, minutes, factor in actions:
            if what == "step":
                feed.post_row(row)
                row += 1
            elif what == "short step":
                feed.post_row(row, but=(column,))
                missing.append((row, column))
                lacking.append((row, column))
                row += 1
            elif what == "join" and missing:
                feed.post(feed.bar(*missing.pop()))
            elif what == "correct" and row - START > 1:
                feed.post(feed.bar(row - 2, column, factor), correct=True)
            elif what == "replace" and row > START:
                feed.post(feed.bar(row - 1, column, factor))
            elif what in ("mark", "funding"):
                rest = {"funding": 0.001 * factor} if what == "funding" else {}
                name = (PERP, BTC)[column % 2]
                # In the order of time: of late quotes the batch knows more than the endpoint did.
                at = max(feed.newest + minutes * MINUTE, quoted.get(name, 0))
                quoted[name] = at + 1
                feed.quote(name, at, factor * price, **rest)
        feed.post_row(row)
        live = feed.live.snapshot(feed.newest)
        # Files hold the bars as they were first posted, without those that came later.
        values = panel.values.copy()
        for row_, column in lacking:
            values[row_, column] = np.nan
        feed.panel = replace(panel, values=values)
        rows = min(START + files, row + 1)
        assert_same_market(feed.batch(rows), live)
        assert_same_market(feed.restarted(rows).snapshot(feed.newest), live)
