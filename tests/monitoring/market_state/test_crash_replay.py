"""Crashes in bars and quotes of two sources: no account is solvent on record while it is
bankrupt at the consensus of the quotes, and no single source marks anyone down for good."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features.state.market_state import MarketState
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet
from margin.valuation.marks import perpetual_marks, suspect_view
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.bars.bar_cleaning import load_bars
from market.bars.history import MarketHistory, load_history
from market.bars.outlier_filter import LAST, OutlierFilter
from market.bars.panel import CLOSE, BarPanel
from market.core.clock import HOUR, INTERVALS, MINUTE, format_time, parse_time
from market.sources.base import BarUpdate, QuoteUpdate
from market.sources.parquet import BarFolder
from monitoring.market_state.live_market import LiveMarket

GUARD = OutlierFilter()
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Event:
    """An event: bars of an hour, or marks of one source; `glitch` names a bad one."""

    ts: int
    bars: tuple[BarUpdate, ...] = ()
    quotes: tuple[QuoteUpdate, ...] = ()
    glitch: str = ""


@dataclass
class Consensus:
    """What an observer of the quotes knows: the newest mark of each source."""

    symbols: Sequence[str]
    marks: dict[str, tuple[int, float]] = field(default_factory=dict)

    def take(self, quotes: Sequence[QuoteUpdate], ts: int) -> None:
        self.marks |= {
            q.instrument: (ts, q.figures["mark"][0]) for q in quotes if "mark" in q.figures
        }

    def range(self, since: int) -> tuple[Floats, Floats]:
        """Lower and upper of two agreeing sources no older than `since`; NaN where there are
        none."""
        low, high = (np.full(len(self.symbols), np.nan) for _ in range(2))
        for s, symbol in enumerate(self.symbols):
            found = [self.marks.get(name) for name in (symbol, f"{symbol}-PERP")]
            prices = [price for ts, price in filter(None, found) if ts >= since]
            if len(prices) == 2 and abs(math.log(prices[0] / prices[1])) <= GUARD.agreement:
                low[s], high[s] = min(prices), max(prices)
        return low, high


def live_from(panel: BarPanel) -> LiveMarket:
    history = MarketHistory.from_panel(panel, GUARD)
    assert history.end is not None
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(history.bars)
    outlier_filter = history.end.state.copy()
    outlier_filter[:, LAST] = history.bars.values[-1, :, CLOSE]
    return LiveMarket(state, history.last_mark(-1), features, None, GUARD, outlier_filter)


def make_book(symbols: Sequence[str], price: Floats, seed: int, count: int = 300) -> Book:
    """Levered books of one to three perpetuals, long and short, entered at `price`."""
    rng = np.random.default_rng(seed)
    accounts = []
    for i in range(count):
        held = rng.choice(len(symbols), rng.integers(1, min(3, len(symbols)) + 1), replace=False)
        leverage = min(40.0, 5.0 * math.exp(0.8 * rng.normal()))
        shares = rng.dirichlet(np.ones(len(held)))
        signs = np.where(rng.random(len(held)) < 0.7, 1.0, -1.0)
        positions = tuple(
            Position(f"{symbols[s]}-PERP", sign * share * leverage * 1_000.0 / price[s], price[s])
            for s, share, sign in zip(held.tolist(), shares, signs, strict=True)
        )
        accounts.append(Account(f"a{i}", 1_000.0, positions))
    return Book.of(accounts)


def equity_at(book: Book, view: MarketView, rules: RuleSet, prices: Floats) -> Floats:
    """Equity of the margin engine with every perpetual at one price, shape (N,)."""
    at = replace(view, mark=prices, quotes=None, suspect_mark=None, suspect_ts=None)
    return compute_requirement(book, at, rules).equity


def equity_on_record(book: Book, view: MarketView, rules: RuleSet) -> Floats:
    """The lower equity at last-good and at suspect prices."""
    views = [view, suspect_view(view)]
    equities = [equity_at(book, v, rules, perpetual_marks(v).price) for v in views if v is not None]
    lowest: Floats = np.min(equities, axis=0)
    return lowest


def worst_bankrupt(book: Book, view: MarketView, rules: RuleSet, low: Floats, high: Floats) -> Any:
    """Whether an account is bankrupt wherever within the consensus its prices lie."""
    column = {symbol: i for i, symbol in enumerate(view.symbols)}
    legs = [column[name.removesuffix("-PERP")] for name in book.leg_instrument]
    favourable = np.where(book.leg_quantity > 0, high[legs], low[legs])
    profit = book.leg_quantity * (favourable - book.leg_entry_price)
    totals = np.add.reduceat(profit, book.leg_start[:-1])
    with np.errstate(invalid="ignore"):
        return book.cash + totals < 0.0


@dataclass
class Replay:
    """What a replay found."""

    bankrupt: set[int] = field(default_factory=set)
    hidden: list[tuple[str, str]] = field(default_factory=list)
    suspects: int = 0
    statuses: set[str] = field(default_factory=set)


def replay(live: LiveMarket, events: Sequence[Event], book: Book, rules: RuleSet) -> Replay:
    """Tell events one by one and look at every account after each."""
    found = Replay()
    consensus = Consensus(live.state.head.symbols)
    for event in events:
        if event.bars:
            results = live.post("1h", event.bars).results
            found.statuses |= {result.status for result in results}
        else:
            consensus.take(event.quotes, event.ts)
            (result, *_) = live.post_quotes(event.quotes).results
            if event.glitch:
                assert result.status in ("suspect", "rejected"), (event, result)
                named = [name for name, *_ in live.state.suspect_prices]
                assert result.status == "rejected" or event.glitch in named
        snapshot = live.snapshot(event.ts)
        view = snapshot.view()
        found.suspects += len(live.state.suspect_prices)
        newest = live.newest_close
        assert newest is not None
        low, high = consensus.range(newest)
        bankrupt = worst_bankrupt(book, view, rules, low, high)
        solvent = equity_on_record(book, view, rules) >= 0.0
        found.bankrupt |= set(np.flatnonzero(bankrupt).tolist())
        hidden = np.flatnonzero(bankrupt & solvent).tolist()
        found.hidden += [(format_time(event.ts), book.account_ids[i]) for i in hidden]
    return found


class CrashPath:
    """Minute prices of coins that fall by 20 to 70% in 30 to 40 minutes and recover in part."""

    def __init__(self, rng: np.random.Generator, start: Floats, minutes: int) -> None:
        at = np.arange(minutes)[:, None]
        depth = rng.uniform(0.2, 0.7, len(start))
        begin = rng.integers(10, 100, len(start))
        length = rng.integers(30, 41, len(start))
        back = rng.uniform(0.3, 0.9, len(start))
        fall = np.clip((at - begin) / length, 0.0, 1.0)
        rise = np.clip((at - begin - length - 10) / 60.0, 0.0, 1.0)
        log = np.log1p(-depth) * (fall - back * rise)
        noise = np.cumsum(rng.normal(0.0, 0.002, (minutes, len(start))), axis=0)
        self.spot: Floats = start * np.exp(log + noise)
        # The perpetual trades below spot while it falls.
        basis = -0.05 * np.where((fall > 0) & (fall < 1), 1.0, 0.1)
        self.perp: Floats = self.spot * np.exp(basis * rng.uniform(0.5, 1.0, (minutes, 1)))


def synthetic_events(
    rng: np.random.Generator, live: LiveMarket, path: CrashPath, minutes: int
) -> Iterator[Event]:
    """Each source quotes each coin now and then; one of them glitches; bars close each hour."""
    symbols = live.state.head.symbols
    assert live.newest_close is not None
    begin = live.newest_close
    due = rng.integers(1, 13, (2, len(symbols)))
    for minute in range(1, minutes):
        ts = begin + minute * MINUTE
        if minute % 60 == 0:
            yield Event(ts, bars=tuple(hour_bars(path.perp, minute, symbols, ts)))
        for source, suffix in enumerate(("", "-PERP")):
            for s in np.flatnonzero(due[source] == minute).tolist():
                prices = (path.spot, path.perp)[source]
                name = f"{symbols[s]}{suffix}"
                true = float(prices[minute, s])
                # The gaps grow to 12 minutes in which a coin may lose a third.
                due[source, s] = minute + rng.integers(1, 13)
                if source == 1 and rng.random() < 0.08:
                    bad = true * float(rng.choice([0.3, 3.5, 1e-9]))
                    yield Event(ts, quotes=(quote(name, bad, ts),), glitch=name)
                    due[source, s] = minute + 1
                else:
                    yield Event(ts, quotes=(quote(name, true, ts),))


def quote(name: str, price: float, ts: int) -> QuoteUpdate:
    return QuoteUpdate(name, ts, {"mark": (price,)})


def hour_bars(
    prices: Floats, minute: int, symbols: Sequence[str], close: int
) -> Iterator[BarUpdate]:
    hour = prices[minute - 60 : minute + 1]
    for s, symbol in enumerate(symbols):
        span = hour[:, s].tolist()
        values = span[0], max(span), min(span), span[-1], 100.0
        yield BarUpdate(symbol, close - HOUR, values)


@pytest.mark.parametrize("seed", range(6))
def test_no_account_is_solvent_on_record_through_a_fast_crash(
    market: Any, ruleset: RuleSet, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    live = live_from(market.panel.rows(0, 220))
    start = live.state.mark.copy()
    path = CrashPath(rng, start, 241)
    events = list(synthetic_events(rng, live, path, 241))
    book = make_book(live.state.head.symbols, start, seed)
    found = replay(live, events, book, ruleset)
    assert found.hidden == []
    assert len(found.bankrupt) > 20, "the crash is one that matters"
    assert found.suspects > 0, "and one that trips the filter"
    assert any(event.glitch for event in events)
    # At the end every price is where it truly is: no glitch stayed, no fall was left out.
    last = perpetual_marks(live.snapshot(events[-1].ts).view()).price
    np.testing.assert_allclose(last, path.perp[-1], rtol=0.25)
    assert not live.state.suspect.any()


def test_glitch_of_one_source_is_on_record_only_until_the_next_quote(
    market: Any, ruleset: RuleSet
) -> None:
    live = live_from(market.panel.rows(0, 220))
    symbols, start = live.state.head.symbols, live.state.mark.copy()
    assert live.newest_close is not None
    at = live.newest_close
    book = make_book(symbols, start, 3)
    name = f"{symbols[0]}-PERP"

    def post_mark(minute: int, factor: float) -> tuple[str, Floats, Floats]:
        ts = at + minute * MINUTE
        (result,) = live.post_quotes([quote(name, factor * float(start[0]), ts)]).results
        view = live.snapshot(ts).view()
        good = equity_at(book, view, ruleset, perpetual_marks(view).price)
        return result.status, good, equity_on_record(book, view, ruleset)

    status, before, record = post_mark(1, 1.0)
    assert status == "applied"
    np.testing.assert_array_equal(before, record)
    status, good, record = post_mark(2, 0.5)
    assert status == "suspect"
    np.testing.assert_array_equal(good, before)
    assert (record < before).any(), "valued twice while it waits"
    status, good, record = post_mark(3, 1.0)
    assert status == "applied"
    np.testing.assert_array_equal(good, record)
    np.testing.assert_array_equal(good, before)


@pytest.mark.realdata
def test_no_account_is_solvent_on_record_through_april_2025(
    data_dir: Path, ruleset: RuleSet
) -> None:
    """2025-04-06 and 07, quotes of spot and perpetual each five minutes and bars each hour."""
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    begin, end = (parse_time(f"2025-04-{day}T00:00:00Z") for day in ("06", "08"))
    perp = BarFolder(data_dir / "ohlcv_5m_binance_perp", "perp")
    panel = load_history([perp], INTERVALS["1h"], symbols).bars
    row = int(np.searchsorted(panel.opens, begin))
    live = live_from(replace(panel.rows(row - 24 * 20, row), exogenous=None))
    start = live.state.mark.copy()
    quotes: dict[int, list[QuoteUpdate]] = {}
    for folder, kind, suffix in (
        ("ohlcv_5m_binance_spot_2025", "spot", ""),
        ("ohlcv_5m_binance_perp", "perp", "-PERP"),
    ):
        for symbol in symbols:
            source = BarFolder(data_dir / folder, "spot" if kind == "spot" else "perp")
            fine = load_bars(source, symbol, INTERVALS["5m"])
            closes = fine.opens + 5 * MINUTE
            inside = (closes > begin) & (closes <= end)
            for ts, price in zip(closes[inside], fine.values[inside, CLOSE], strict=True):
                at_time = quotes.setdefault(int(ts), [])
                at_time.append(quote(f"{symbol}{suffix}", float(price), int(ts)))
    events = []
    for ts in sorted(quotes):
        if ts % HOUR == 0:
            values = panel.values[int(np.searchsorted(panel.closes, ts))]
            bars = [
                BarUpdate(symbol, ts - HOUR, tuple(values[s].tolist()))
                for s, symbol in enumerate(symbols)
            ]
            events.append(Event(ts, bars=tuple(bars)))
        events.append(Event(ts, quotes=tuple(quotes[ts])))
    assert len(events) == 48 * 13
    book = make_book(symbols, start, 7)
    found = replay(live, events, book, ruleset)
    assert found.hidden == []
    assert len(found.bankrupt) > 20
    assert found.statuses == {"applied"}
    assert found.suspects == 0, "a fall that every source shows step by step holds nothing back"
