"""Helpers for tests of the outlier filter: a market, quotes and bars around its prices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from features.state.market_state import MarketState
from features.state.point_in_time import advance_through
from market.bars.history import MarketHistory
from market.bars.outlier_filter import LAST, OutlierFilter
from market.bars.panel import CLOSE
from market.core.clock import MINUTE, format_time
from market.quotes.quotes import InstrumentQuote, QuoteBoard
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarsResponse
from monitoring.market_state.steps import StepRule
from monitoring.quotes.messages import QuotesResponse

START = 220


GUARD = OutlierFilter()


CASH = frozenset({"USDT"})


BTC, PERP = "BTCUSDT", "BTCUSDT-PERP"


Post = dict[str, Any]


def start(market: Any, rows: int = START, quorum: float = 0.0) -> LiveMarket:
    """An endpoint's market whose newest bar is that of row `rows` - 1, without an open step.

    Each bar makes its step count unless a quorum is given.
    """
    history = MarketHistory.from_panel(market.panel.rows(0, rows), GUARD)
    end = history.end
    assert end is not None
    state = MarketState(history.bars.symbols, history.bars.interval)
    features = advance_through(state, history.bars, None)
    outlier_filter = end.state.copy()
    outlier_filter[:, LAST] = history.bars.values[-1, :, CLOSE]
    recent = replace(history.bars.rows(-len(end.recent_bars), None), values=end.recent_bars)
    rule = StepRule(quorum=quorum)
    return LiveMarket(state, history.last_mark(-1), features, recent, GUARD, outlier_filter, rule)


def post_quotes(live: LiveMarket, quotes: list[Post], **rest: Any) -> QuotesResponse:
    return live.post_quotes(
        quote_updates(msgspec.convert(quotes, list[QuoteIn]), rest.get("now")).updates,
        cash_assets=CASH,
        **rest,
    )


def post_bars(live: LiveMarket, bars: list[Post], **rest: Any) -> BarsResponse:
    return live.post(
        "1h", bar_updates([BarIn(**bar) for bar in bars], rest.get("now")).updates, **rest
    )


def statuses(response: QuotesResponse | BarsResponse) -> list[str]:
    return [result.status for result in response.results]


def close_of(live: LiveMarket) -> int:
    assert live.newest_close is not None
    return live.newest_close


def price_of(live: LiveMarket, column: int = 0) -> float:
    return float(live.state.mark[column])


def board(live: LiveMarket, as_of: int | None = None) -> QuoteBoard:
    known = live.state.newest_known
    assert known is not None
    found = live.snapshot(known if as_of is None else as_of).quotes
    assert found is not None
    return found


def quote_of(live: LiveMarket, name: str, as_of: int | None = None) -> InstrumentQuote:
    return board(live, as_of).instruments[name]


def mark(name: str, value: float, ts: int) -> Post:
    return {"instrument": name, "mark": value, "ts": format_time(ts)}


def bar(live: LiveMarket, value: float, steps: int = 1, symbol: str = BTC) -> Post:
    """A bar of some steps on that closes at a price."""
    step = live.state.interval.nanoseconds
    ts = format_time(close_of(live) + (steps - 1) * step)
    prices = {"open": value, "high": value * 1.001, "low": value * 0.999, "close": value}
    return {"symbol": symbol, "ts": ts, "volume": 10.0, **prices}


def crash(live: LiveMarket) -> list[tuple[str, Post]]:
    """A crash by 35% in quotes, forward and bar, and a glitch of another symbol."""
    at, price = close_of(live), 0.65 * price_of(live)
    return [
        ("quote", mark(BTC, price, at + 50 * MINUTE)),
        ("quote", mark(PERP, 0.98 * price, at + 52 * MINUTE)),
        ("bar", bar(live, 1.01 * price)),
        ("bar", bar(live, price_of(live, 1), symbol="ETHUSDT")),
        ("quote", mark("ETHUSDT-PERP", 2.0 * price_of(live, 1), at + 55 * MINUTE)),
    ]


def post_all(
    live: LiveMarket, updates: list[tuple[str, Post]], cuts: set[int], **rest: Any
) -> None:
    """Post updates in order, in one post as long as the kind is the same and there is no cut."""
    run: list[Post] = []
    for i, (kind, what) in enumerate(updates):
        run.append(what)
        if i + 1 == len(updates) or updates[i + 1][0] != kind or i + 1 in cuts:
            post = post_quotes if kind == "quote" else post_bars
            post(live, run, **{name: call(kind) for name, call in rest.items()})
            run = []


def assert_same_head(a: LiveMarket, b: LiveMarket) -> None:
    for part in ("committed", "head"):
        for name, array in getattr(a.state, part).arrays.items():
            assert array.tobytes() == getattr(b.state, part).arrays[name].tobytes(), name
    for name in ("mark", "filter_state"):
        assert getattr(a.state, name).tobytes() == getattr(b.state, name).tobytes(), name
    assert a.state.suspect_prices == b.state.suspect_prices
