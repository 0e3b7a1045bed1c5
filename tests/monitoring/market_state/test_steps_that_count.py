"""When a step of the live market counts: quorum, grace, and what waits."""

from __future__ import annotations

from typing import Any

import pytest

from features.state.snapshot import MarketSnapshot
from ledger.records import FIRST_PREVIOUS_HASH, Entry, Record
from market.bars.outlier_filter import OutlierFilter, new_state
from market.bars.panel import CLOSE
from market.core.clock import DAY, HOUR, SECOND, format_time
from market.core.errors import ConfigError, LedgerError
from market.sources.http import QuoteIn, quote_updates
from monitoring.market_state import steps as live_steps
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.steps import StepRule
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
    assert_same_state(live.state.head, other.state.head)
    assert live.snapshot(at(market, START + 5)).usable().all()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_recovery_of_one_symbol_after_another_loses_no_bar(
    market: Any, order: tuple[int, ...]
) -> None:
    live, rows = market.head(START).live(), range(START, START + 6)
    for symbol in order:
        assert statuses(post(live, column(market, rows, symbol))) == ["applied"] * 6
    assert_equals_batch(live, market, market.panel.values[: START + 6])


def test_newest_hour_before_the_hours_of_an_outage_loses_no_bar(market: Any) -> None:
    live = market.head(START).live()
    post(live, market.bars(range(START + 5, START + 6)))
    assert live.newest_close == at(market, START + 5)
    missed = market.bars(range(START, START + 5))
    assert statuses(post(live, missed[::-1])) == ["applied"] * len(missed)
    assert_equals_batch(live, market, market.panel.values[: START + 6])


def test_step_counts_with_more_than_half_and_each_further_bar_at_once(market: Any) -> None:
    live = market.head(START).live()
    bars = market.bars(range(START, START + 1))
    newest = [post(live, [bar]).as_of for bar in bars]
    before, after = format_time(at(market, START - 1)), format_time(at(market, START))
    assert newest == [before, before, after, after]
    assert live.state.mark.tolist() == [bar["close"] for bar in bars]


@pytest.mark.parametrize(
    ("quorum", "live", "needed"),
    [(0.5, 1, 1), (0.5, 2, 2), (0.5, 3, 2), (0.5, 4, 3), (0.0, 9, 1), (1.0, 4, 4), (0.29, 100, 30)],
)
def test_quorum_is_more_than_its_share_of_the_live_symbols(
    quorum: float, live: int, needed: int
) -> None:
    assert StepRule(quorum).needed(live) == needed


def test_rule_refuses_what_cannot_be() -> None:
    refused: list[dict[str, Any]] = [{"quorum": 1.5}, {"quorum": float("nan")}, {"grace": -1}]
    for value in refused:
        with pytest.raises(ConfigError):
            StepRule(**value)


def test_halted_symbols_drop_out_of_the_quorum(market: Any) -> None:
    live = market.head(START).live(StepRule(quorum=0.7))
    for row, final in ((START, True), (START + 1, True), (START + 2, True), (START + 3, False)):
        post(live, [market.bar(row, 0), market.bar(row, 1)], final=final)
    # After three steps the others are no longer asked, so two of two are a quorum.
    assert live.newest_close == at(market, START + 3)
    assert live.state.live.tolist() == [True, True, False, False]


def test_symbols_that_come_back_count_after_those_that_stopped(market: Any) -> None:
    live = market.head(START).live()
    post(live, [market.bar(START + 6, 0)], final=True)
    assert live.state.live.tolist() == [True, False, False, False]
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
    assert_equals_batch(live, market, market.panel.values[: START + 1])


def test_steps_that_cannot_be_recorded_do_not_count(market: Any) -> None:
    live, now = market.head(START).live(), at(market, START)

    def refuse(_: Entry) -> None:
        raise LedgerError("full")

    post(live, [market.bar(START, 0)], now=now)
    before = live.state
    with pytest.raises(LedgerError):
        live.count_due(now + HOUR, refuse)
    assert live.state is before


def test_bar_that_waits_marks_its_symbol_from_its_close_on(market: Any) -> None:
    live, bar = market.head(START).live(), market.bar(START, 0)
    known = live.state.mark.copy()
    post(live, [bar])
    close = at(market, START)
    assert live.snapshot(close - 1).mark.tobytes() == known.tobytes()
    later = live.snapshot(close + HOUR // 2)
    assert later.mark.tolist() == [bar["close"], *known[1:].tolist()]
    assert later.view().age_hours.tolist() == [0.5, 1.5, 1.5, 1.5]
    # The features, and how old they are, are those of the newest step that counts.
    assert later.features.age[0].tolist() == [1.5, 1.5, 1.5, 1.5]
    replayed = MarketSnapshot.from_content(later.content(), later.as_of)
    assert replayed.view().age_hours.tolist() == later.view().age_hours.tolist()
    assert live.state.features is not None
    assert later.features.values.tobytes() == live.state.features.values.tobytes()


def test_snapshots_of_a_state_share_what_is_recorded_until_a_waiting_bar_has_closed(
    market: Any,
) -> None:
    live = market.head(START).live()
    post(live, [market.bar(START, 0)])
    newest, close = at(market, START - 1), at(market, START)
    early = [live.snapshot(newest + later) for later in (0, 1, HOUR - 1)]
    late = [live.snapshot(close + later) for later in (0, 1, 3 * HOUR)]
    for snapshots in (early, late):
        parts = snapshots[0].recorded_parts
        assert all(
            one is other
            for snapshot in snapshots
            for one, other in zip(snapshot.recorded_parts, parts, strict=True)
        )
    assert early[0].content() != late[0].content()
    # What was made first does not matter.
    again = market.head(START).live()
    post(again, [market.bar(START, 0)])
    for snapshot in (*late, *early):
        other = again.snapshot(snapshot.as_of)
        assert other.content() == snapshot.content()
        assert other.view().age_hours.tobytes() == snapshot.view().age_hours.tobytes()
        assert other.features.history.tobytes() == snapshot.features.history.tobytes()


def test_a_quote_leaves_what_is_recorded_of_the_bars_as_it_is_and_a_bar_does_not(
    market: Any,
) -> None:
    live = market.head(START).live()
    first = live.snapshot(at(market, START - 1))
    quote = QuoteIn("BTCUSDT-PERP", format_time(at(market, START - 1)), mark=50_000.0)
    live.post_quotes(quote_updates([quote], None).updates)
    quoted = live.snapshot(at(market, START - 1))
    assert quoted.quotes is not None
    assert quoted.at_close is first.at_close
    post(live, market.bars(range(START, START + 1)))
    moved = live.snapshot(at(market, START))
    assert moved.at_close is not first.at_close
    assert moved.content() != first.content()


def filtering(market: Any) -> LiveMarket:
    """A live market with an outlier filter that knows the last closes."""
    head = market.head(START)
    filter_state = new_state(4)
    filter_state[:, 0] = head.panel.values[-1, :, CLOSE]
    return LiveMarket(
        head.state.copy(),
        head.history.last_mark(-1),
        head.features,
        head.panel,
        OutlierFilter(),
        filter_state,
    )


def test_bar_that_waits_is_filtered_as_it_comes(market: Any) -> None:
    live, bar = filtering(market), market.bar(START, 0)
    bad = bar | {name: bar[name] * 1.6 for name in ("open", "high", "low", "close")}
    response = post(live, [bad])
    assert statuses(response) == ["suspect"]
    assert "waits for a quorum" in str(response.results[0].detail)
    seen = live.snapshot(at(market, START))
    assert seen.suspect.tolist() == [True, False, False, False]
    assert seen.mark[0] == market.panel.values[START - 1, 0, CLOSE]
    assert statuses(post(live, [bar])) == ["corrected"]
    assert not live.snapshot(at(market, START)).suspect.any()


def test_bar_that_comes_twice_in_one_request_is_replaced_in_a_waiting_step(market: Any) -> None:
    live, bar = market.head(START).live(), market.bar(START, 0)
    response = post(live, [bar | {"volume": 1.0}, bar, bar])
    assert statuses(response) == ["applied", "corrected", "duplicate"]
    assert "replaced by a later one" in str(response.results[0].detail)
    post(live, market.bars(range(START, START + 1))[1:])
    assert_equals_batch(live, market, market.panel.values[: START + 1])


def test_impossible_bar_that_the_same_request_replaces_is_recorded_and_followed(
    market: Any,
) -> None:
    live, follower, plain = filtering(market), filtering(market), filtering(market)
    bars, recorded = market.bars(range(START, START + 1)), list[Entry]()
    bad = bars[0] | {name: bars[0][name] * 1e-3 for name in ("open", "high", "low", "close")}
    response = post(live, [bad, *bars], record=recorded.append)
    assert statuses(response) == ["applied", "corrected", "applied", "applied", "applied"]
    (entry,) = recorded
    follower.follow(as_record(entry))
    post(plain, bars)
    for each in (live, follower):
        assert_same_state(each.state.head, plain.state.head)


@pytest.mark.parametrize(("factor", "verdict"), [(9.0, "rejected"), (1.6, "suspect")])
def test_same_bar_twice_in_one_request_gets_the_verdict_of_the_filter_in_a_waiting_step(
    market: Any, factor: float, verdict: str
) -> None:
    live, follower, plain = filtering(market), filtering(market), filtering(market)
    bar, recorded = market.bar(START, 0), list[Entry]()
    bad = bar | {name: bar[name] * factor for name in ("open", "high", "low", "close")}
    response = post(live, [bad, bad], record=recorded.append)
    assert statuses(response) == [verdict, "duplicate"]
    assert "replaced" not in str(response.results[0].detail)
    assert "waits for a quorum: 1 of 3 bars" in str(response.results[0].detail)
    (entry,) = recorded
    assert [result["status"] for result in entry.payload["results"]] == [verdict]
    follower.follow(as_record(entry))
    post(plain, [bad])
    for each in (live, follower):
        assert_same_market(each, plain)


def as_record(entry: Entry) -> Record:
    """The record of an entry, the first one of its chain."""
    return Record(
        id="a",
        chain="market",
        seq=1,
        recorded_at=1,
        kind=entry.kind,
        account_id=None,
        as_of=entry.as_of,
        payload=entry.payload,
        previous_hash=FIRST_PREVIOUS_HASH,
        hash=FIRST_PREVIOUS_HASH,
    )


def test_no_more_steps_wait_than_are_kept(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_steps, "KEPT_STEPS", 5)
    live = market.head(START).live()
    response = post(live, column(market, range(START, START + 8), 0))
    assert statuses(response) == ["applied"] * 5 + ["rejected"] * 3
    assert '"final": true' in str(response.results[-1].detail)
    # A step that counts at once is never refused.
    assert set(statuses(post(live, market.bars(range(START + 8, START + 9))))) == {"applied"}
    assert not live.state.waiting
