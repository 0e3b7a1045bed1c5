from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketState
from ledger.store import Ledger
from market.bars.panel import (
    BASIS,
    CLOSE,
    EXOGENOUS_WIDTH,
    FUNDING,
    IMPLIED_VOLATILITY,
    OPEN_INTEREST,
)
from market.core.clock import DAY, HOUR, MINUTE, SECOND, format_time
from market.core.errors import DataError, LedgerError
from market.core.instruments import parse_expiry
from market.quotes.quotes import QuoteBoard
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.market_state.live_market import LiveMarket
from monitoring.quotes.messages import QuotesResponse
from monitoring.recovery.recovery import QUOTE_BOARD

START = 220
CASH = frozenset({"USDT"})


def expiry_after(live: LiveMarket, days: int = 30) -> str:
    at = live.state.newest_close
    assert at is not None
    day = np.datetime64(at + days * DAY, "ns").astype("datetime64[s]").item()
    return f"BTC-{day.day}{day:%b%y}".upper()


def quote(live: LiveMarket, quotes: list[dict[str, Any]], **rest: Any) -> QuotesResponse:
    return live.post_quotes(
        quote_updates([QuoteIn(**q) for q in quotes], rest.get("now")).updates,
        cash_assets=CASH,
        **rest,
    )


def bars(live: LiveMarket, given_: list[dict[str, Any]], **rest: Any) -> None:
    response = live.post(
        "1h", bar_updates([BarIn(**bar) for bar in given_], rest.get("now")).updates, **rest
    )
    assert {result.status for result in response.results} == {"applied"}


def statuses(response: QuotesResponse) -> list[str]:
    return [result.status for result in response.results]


def board(live: LiveMarket) -> QuoteBoard:
    known = live.state.newest_known
    assert known is not None
    found = live.snapshot(known).view().quotes
    assert found is not None
    return found


def close(live: LiveMarket) -> int:
    found = live.state.newest_close
    assert found is not None
    return found


def assert_same_market(a: LiveMarket, b: LiveMarket) -> None:
    for part in ("committed", "head"):
        left, right = getattr(a.state, part), getattr(b.state, part)
        assert left.last_open == right.last_open
        for name, array in left.arrays.items():
            assert array.tobytes() == right.arrays[name].tobytes(), name
    assert a.state.features is not None
    assert b.state.features is not None
    assert a.state.features.values.tobytes() == b.state.features.values.tobytes()
    assert a.state.mark.tobytes() == b.state.mark.tobytes()
    assert a.state.newest_known == b.state.newest_known
    assert board(a) == board(b)
    assert a.state.quote_series.keys() == b.state.quote_series.keys()
    for open_, series in a.state.quote_series.items():
        assert series.tobytes() == b.state.quote_series[open_].tobytes()


def test_quotes_reach_the_view_and_move_the_decision_time_on_the_markets_clock(
    market: Any,
) -> None:
    live = market.live()
    expiry = expiry_after(live)
    later = close(live) + 5 * MINUTE
    response = quote(
        live,
        [
            {"instrument": expiry, "forward": 6e4, "rate": 0.03, "vols": {"60000": 0.5}},
            {"instrument": f"{expiry}-60000-C", "vol": 0.55, "ts": format_time(later)},
            {"instrument": "USDT", "mark": 0.999},
        ],
    )
    assert statuses(response) == ["applied"] * 3
    assert [r.ts for r in response.results] == [
        format_time(ts) for ts in (close(live), later, close(live))
    ]
    assert response.as_of == format_time(later)
    found = board(live)
    assert found.expiries[expiry].forward == 6e4
    assert found.instruments[f"{expiry}-60000-C"].vol == 0.55
    assert found.instruments["USDT"].mark == 0.999
    # Before the second quote the option had no vol of its own.
    earlier = live.snapshot(close(live)).quotes
    assert earlier is not None
    assert set(earlier.instruments) == {"USDT"}


def test_a_market_without_quotes_has_none_in_the_view(market: Any) -> None:
    snapshot = market.live().snapshot(close(market.live()))
    assert snapshot.quotes is None
    assert snapshot.view().quotes is None


def test_late_rejected_or_known_quotes_change_nothing_and_have_a_detail(market: Any) -> None:
    live = market.live()
    expiry = expiry_after(live)
    now = {"instrument": expiry, "forward": 6e4, "ts": format_time(close(live))}
    old = now | {"forward": 5e4, "ts": format_time(close(live) - SECOND)}
    half = old | {"rate": 0.05}
    response = quote(live, [now, now, old, half, now | {"forward": -1.0}])
    assert statuses(response) == ["applied", "duplicate", "late", "applied", "rejected"]
    details = [result.detail for result in response.results]
    assert details[0] is None
    assert "newer" in str(details[2])
    assert "forward stays" in str(details[3])
    assert "forward is -1" in str(details[4])
    assert board(live).expiries[expiry].forward == 6e4
    assert board(live).expiries[expiry].rate == 0.05


def test_vols_without_a_forward_wait_for_it(market: Any) -> None:
    live = market.live()
    expiry = expiry_after(live)
    (result,) = quote(live, [{"instrument": expiry, "vols": {"60000": 0.5}}]).results
    assert result.status == "applied"
    assert "no forward yet" in str(result.detail)
    quote(live, [{"instrument": expiry, "forward": 6e4}])
    assert board(live).expiries[expiry].vols == {6e4: 0.5}


def test_quotes_too_far_ahead_are_rejected_on_either_clock(market: Any) -> None:
    live = market.live()
    ahead = [{"instrument": "USDT", "mark": 1.0, "ts": format_time(close(live) + DAY + SECOND)}]
    assert statuses(quote(live, ahead)) == ["rejected"]
    now = close(live) + HOUR
    for seconds, status in ((5, "applied"), (6, "rejected")):
        soon = [{"instrument": "USDT", "mark": 1.0, "ts": format_time(now + seconds * SECOND)}]
        assert statuses(quote(live, soon, now=now)) == [status]
    # What was accepted ahead of the clock does not open the door further.
    assert statuses(quote(live, soon, now=now)) == ["rejected"]


def test_a_market_without_bars_has_no_clock_of_its_own(market: Any) -> None:
    state = MarketState(market.panel.symbols, market.panel.interval)
    live = LiveMarket(state, np.full(4, np.nan), None)
    with pytest.raises(DataError, match="post bars first"):
        quote(live, [{"instrument": "USDT", "mark": 1.0}])
    assert statuses(quote(live, [{"instrument": "USDT", "mark": 1.0}], now=DAY)) == ["applied"]


def test_quotes_that_cannot_be_recorded_do_not_count(market: Any) -> None:
    live = market.live()
    fields = [{"instrument": "BTCUSDT-PERP", "mark": 6e4, "funding": 1e-4}]
    before = live.state

    def refuse(_: object) -> None:
        raise LedgerError("full")

    with pytest.raises(LedgerError):
        quote(live, fields, record=refuse)
    assert live.state is before
    seen: list[Any] = []
    assert statuses(quote(live, fields, record=seen.extend)) == ["applied"]
    assert [entry.kind for entry in seen] == ["quotes"]
    assert statuses(quote(live, fields, record=seen.extend)) == ["duplicate"]
    assert len(seen) == 1


def test_posts_from_many_threads_all_count(market: Any) -> None:
    live = market.live()
    names = [f"{symbol}-PERP" for symbol in market.panel.symbols]

    def post(name: str) -> None:
        for i in range(20):
            ts = format_time(close(live) + i * SECOND)
            quote(live, [{"instrument": name, "mark": 1.0 + i, "ts": ts}])

    threads = [threading.Thread(target=post, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: board(live).instruments[name].mark for name in names} == dict.fromkeys(
        names, 20.0
    )


FACTS = {
    FUNDING: ("-PERP", "funding", 8.0),
    OPEN_INTEREST: ("", "open_interest", 1.0),
    IMPLIED_VOLATILITY: ("-PERP", "implied_vol", 1.0),
}


@settings(max_examples=12)
@given(data=st.data())
def test_posted_context_equals_that_of_files_to_the_last_bit(
    market: Any, data: st.DataObject
) -> None:
    """Whether a quote comes before its step begins or while it is pending."""
    rows = range(START, START + 5)
    context = np.full((START + 5, len(market.panel.symbols), EXOGENOUS_WIDTH), np.nan)
    live = market.head(START).live()
    waiting: list[tuple[int, dict[str, Any]]] = []
    for row in rows:
        for kind, (suffix, name, scale) in FACTS.items():
            column = data.draw(st.integers(0, len(market.panel.symbols) - 1))
            value = data.draw(st.floats(1e-6, 0.9))
            context[row, column, kind] = value * scale / scale
            past = data.draw(st.integers(1, 60)) * MINUTE
            fields = {
                "instrument": f"{market.panel.symbols[column]}{suffix}",
                name: value * scale if kind != FUNDING else value,
                "ts": format_time(int(market.panel.opens[row]) + past),
            }
            if kind == FUNDING:
                fields["interval_hours"] = 1.0
            waiting.append((row, fields))
    skipped = data.draw(st.sampled_from([None, *rows[1:-1]]))
    for row in rows:
        own = [fields for r, fields in waiting if r == row]
        before = data.draw(st.integers(0, len(own)))
        if before:
            assert statuses(quote(live, own[:before])) == ["applied"] * before
        if row == skipped:
            if before < len(own):
                quote(live, own[before:])
            continue
        bars(live, market.bars(range(row, row + 1)))
        if before < len(own):
            quote(live, own[before:])
    values = market.panel.values[: START + 5].copy()
    if skipped is not None:
        values[skipped] = np.nan
    panel = replace(
        market.panel.rows(0, START + 5), values=np.ascontiguousarray(values), exogenous=context
    )
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel)
    assert live.state.features is not None
    assert live.state.features.values[-1].tobytes() == features.values[-1].tobytes()
    for name, array in state.arrays.items():
        assert live.state.head.arrays[name].tobytes() == array.tobytes(), name


def test_exogenous_value_for_a_past_step_changes_nothing_and_has_a_detail(market: Any) -> None:
    live, other = market.live(), market.live()
    ts = format_time(close(live) - HOUR)
    (result,) = quote(live, [{"instrument": "BTCUSDT-PERP", "funding": 1e-4, "ts": ts}]).results
    assert result.status == "applied"
    assert "is over" in str(result.detail)
    assert live.state.features is not None
    assert other.state.features is not None
    assert live.state.features.values.tobytes() == other.state.features.values.tobytes()
    assert live.state.quote_series == {}


def test_posted_context_goes_before_that_of_the_files_and_survives_corrections(
    market: Any,
) -> None:
    context = np.full((START + 1, 4, EXOGENOUS_WIDTH), np.nan)
    context[:, :, FUNDING] = 1e-5
    panel = replace(market.panel.rows(0, START + 1), exogenous=context)
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel.rows(0, START))
    live = LiveMarket(state, panel.values[START - 1, :, CLOSE], features)
    live.open_step(panel.rows(START, None), panel.values[START, :, CLOSE])
    quote(live, [{"instrument": "ETHUSDT-PERP", "funding": 3e-4, "interval_hours": 1.0}])
    (bar,) = (b for b in market.bars(range(START, START + 1)) if b["symbol"] == "BTCUSDT")
    for volume in (1.0, bar["volume"]):
        live.post("1h", bar_updates([BarIn(**{**bar, "volume": volume})]).updates)
    context[START, panel.symbols.index("ETHUSDT"), FUNDING] = 3e-4
    whole = MarketState(panel.symbols, panel.interval).advance(panel)
    assert live.state.features is not None
    assert live.state.features.values[-1].tobytes() == whole.values[-1].tobytes()


def test_the_basis_is_that_of_two_marks_of_one_step(market: Any) -> None:
    live = market.live()
    btc = market.panel.symbols.index("BTCUSDT")
    in_next, after = close(live) + MINUTE, close(live) + HOUR + MINUTE
    perp = {"instrument": "BTCUSDT-PERP", "mark": 60_600.0, "ts": format_time(in_next)}
    spot = {"instrument": "BTCUSDT", "mark": 60_000.0}
    quote(live, [perp, spot | {"ts": format_time(after)}])
    assert live.state.quote_series == {}
    quote(live, [perp | {"ts": format_time(after + SECOND)}])
    (open_,) = live.state.quote_series
    assert open_ == close(live) + HOUR
    row = live.state.quote_series[open_]
    assert row[btc, BASIS] == pytest.approx(np.log(1.01))
    assert np.isnan(row).sum() == row.size - 1


def traffic(live: LiveMarket, market: Any, rows: range, record: Any) -> None:
    """Bars and quotes, some late, some of the pending step, some ahead."""
    expiry = expiry_after(live)
    for row in rows:
        opened = int(market.panel.opens[row])
        quote(
            live,
            [
                {"instrument": expiry, "forward": 6e4 + row, "ts": format_time(opened + MINUTE)},
                {"instrument": "BTCUSDT-PERP", "funding": row * 1e-6, "mark": 6e4 + row},
                {"instrument": "BTCUSDT", "mark": 6e4, "implied_vol": 0.5 + row * 1e-4},
                {"instrument": "USDT", "mark": 1.0 - row * 1e-5},
            ],
            record=record,
        )
        live.post(
            "1h",
            bar_updates([BarIn(**bar) for bar in market.bars(range(row, row + 1))]).updates,
            record=lambda entry: record([entry]),
        )
        quote(
            live,
            [
                {"instrument": "ETHUSDT-PERP", "funding": row * 2e-6, "interval_hours": 4.0},
                {"instrument": "SOLUSDT", "open_interest": 5.0 + row, "ts": format_time(opened)},
                {"instrument": f"{expiry}-60000-C", "vol": 0.6 + row * 1e-4},
            ],
            record=record,
        )


@pytest.mark.parametrize("saved_every", [1, 10, 10_000])
@pytest.mark.parametrize("files_end", [START, START + 3])
def test_a_restart_from_the_ledger_gives_the_same_market_to_the_bit(
    market: Any,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    saved_every: int,
    files_end: int,
) -> None:
    monkeypatch.setattr("monitoring.market_state.live_market.SAVED_EVERY", saved_every)
    live = market.head(START).live()
    traffic(live, market, range(START, START + 8), ledger.append)
    boards = len(list(ledger.records(QUOTE_BOARD)))
    assert (boards > 0) == (saved_every < 10_000)
    restarted = market.head(files_end).live()
    restarted.recover(ledger, CASH)
    if files_end == START:
        assert_same_market(live, restarted)
    else:  # the files have no exogenous series of the steps between
        assert board(live) == board(restarted)
    for each in (live, restarted):
        traffic(each, market, range(START + 8, START + 10), lambda entries: None)
    assert board(live) == board(restarted)
    again = market.head(START).live()
    again.recover(ledger, CASH)
    again.recover(ledger, CASH)


def test_a_restart_on_the_wall_clock_keeps_what_had_not_expired_then(
    market: Any, ledger: Ledger
) -> None:
    live = market.live()
    expiry, now = expiry_after(live, days=1), close(live) + HOUR + 7
    quotes: list[dict[str, Any]] = [
        {"instrument": expiry, "forward": 6e4},
        {"instrument": f"{expiry}-60000-C", "vol": 0.6},
        {"instrument": "BUIDL-I", "mark": 1.0},
    ]
    cash = frozenset({"BUIDL-I"})
    response = live.post_quotes(
        quote_updates([QuoteIn(**q) for q in quotes], now).updates,
        cash_assets=cash,
        now=now,
        record=ledger.append,
    )
    assert statuses(response) == ["applied"] * 3
    restarted = market.live()
    restarted.recover(ledger, cash, now + DAY)
    as_of = now + SECOND
    before, after = live.snapshot(as_of), restarted.snapshot(as_of)
    assert after.content() == before.content()
    assert after.quotes == before.quotes
    assert after.quotes is not None
    later = restarted.snapshot(parse_expiry(expiry) + 1).quotes
    assert later is not None
    assert set(later.instruments) == {"BUIDL-I"}


def test_recorded_quotes_of_another_market_do_not_count(market: Any, ledger: Ledger) -> None:
    live = market.live()
    quote(live, [{"instrument": "BTCUSDT-PERP", "mark": 6e4}], record=ledger.append)
    earlier = market.head(START - 40).live()
    earlier.recover(ledger, CASH)
    assert earlier.state.newest_known == earlier.state.newest_close


def test_expired_options_leave_the_live_board(market: Any) -> None:
    live = market.live()
    expiry = expiry_after(live, days=2)
    quote(
        live,
        [
            {"instrument": expiry, "forward": 6e4},
            {"instrument": f"{expiry}-60000-C", "vol": 0.6},
            {"instrument": "USDT", "mark": 1.0},
        ],
    )
    end = parse_expiry(expiry)
    quote(live, [{"instrument": "USDT", "mark": 1.0, "ts": format_time(end)}], now=end)
    assert expiry in board(live).expiries
    late = quote(live, [{"instrument": f"{expiry}-60000-C", "vol": 0.6}], now=end + MINUTE)
    assert statuses(late) == ["rejected"]
    quote(live, [{"instrument": "USDT", "mark": 1.0}], now=end + MINUTE)
    assert live.state.quotes.instruments == {"USDT"}
