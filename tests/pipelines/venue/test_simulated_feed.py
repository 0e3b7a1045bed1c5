from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from market.bars.panel import BASIS, CLOSE, FUNDING, HIGH, LOW
from market.core.clock import HOUR, MINUTE, Interval, format_time, parse_time
from market.core.errors import DataError
from market.simulator.simulated_market import simulate_bars, simulate_market
from monitoring.market_state.messages import BarsRequest
from monitoring.quotes.messages import QuotesRequest
from pipelines.venue.simulated_feed import SimulatedFeed

HOURLY = Interval.parse("1h")


@pytest.fixture(scope="module")
def feed() -> SimulatedFeed:
    market = simulate_market(1, 10, 4, HOURLY)
    close = int(market.panel.closes[-25])
    return SimulatedFeed(market.halted({"XRPUSDT": close}).panel)


def by_instrument(request: dict[str, Any]) -> dict[str, Any]:
    return {quote["instrument"]: quote for quote in request["quotes"]}


def test_bars_are_those_of_the_market_without_what_is_missing(feed: SimulatedFeed) -> None:
    request = feed.bars(10, 12)
    msgspec.convert(request, BarsRequest)
    assert len(request["bars"]) == 2 * 4
    first = request["bars"][0]
    assert parse_time(first["ts"]) == int(feed.panel.opens[10])
    assert first["close"] == feed.panel.values[10, 0, CLOSE]
    last = len(feed.panel) - 1
    assert {bar["symbol"] for bar in feed.bars(last, last + 1)["bars"]} == {
        "BTCUSDT",
        "ETHUSDT",
        "SOLUSDT",
    }


def test_marks_move_within_the_bar_and_the_perpetual_by_the_known_basis(
    feed: SimulatedFeed,
) -> None:
    row = 50
    exogenous = feed.panel.exogenous
    assert exogenous is not None
    for minutes in (0, 10, 40, 59):
        time = int(feed.panel.opens[row]) + minutes * MINUTE
        request = feed.marks(time)
        msgspec.convert(request, QuotesRequest)
        quotes = by_instrument(request)
        for column, symbol in enumerate(feed.panel.symbols):
            spot, perpetual = quotes[symbol], quotes[f"{symbol}-PERP"]
            bar = feed.panel.values[row, column]
            assert bar[LOW] * (1 - 1e-7) <= spot["mark"] <= bar[HIGH] * (1 + 1e-7)
            basis = perpetual["mark"] / spot["mark"] - 1.0
            assert basis == pytest.approx(exogenous[row - 1, column, BASIS], abs=1e-6)
            assert spot["ts"] == format_time(time)


def test_figures_are_those_known_at_the_close(feed: SimulatedFeed) -> None:
    exogenous = feed.panel.exogenous
    assert exogenous is not None
    settled = next(r for r in range(30, 40) if int(feed.panel.closes[r]) // HOUR % 8 == 0)
    quotes = by_instrument(feed.figures(settled))
    msgspec.convert({"quotes": list(quotes.values())}, QuotesRequest)
    bitcoin = feed.panel.symbols.index("BTCUSDT")
    paid = quotes["BTCUSDT-PERP"]
    assert paid["funding"] / paid["interval_hours"] == exogenous[settled, bitcoin, FUNDING]
    assert paid["open_interest"] > 0.0
    assert quotes["BTCUSDT"]["implied_vol"] > 0.0
    assert quotes["BTCUSDT"]["mark"] == pytest.approx(feed.panel.values[settled, bitcoin, CLOSE])
    assert "funding" not in by_instrument(feed.figures(settled + 1))["BTCUSDT-PERP"]


def test_a_halted_coin_is_not_quoted(feed: SimulatedFeed) -> None:
    last = len(feed.panel) - 1
    for request in (feed.figures(last), feed.marks(int(feed.panel.opens[last]) + MINUTE)):
        assert len(request["quotes"]) == 2 * 3
        assert all(np.isfinite(quote["mark"]) for quote in request["quotes"])


def test_rows_and_times_agree(feed: SimulatedFeed) -> None:
    for row in (0, 17, len(feed.panel) - 1):
        open_ = int(feed.panel.opens[row])
        assert feed.row_at(open_) == feed.row_at(open_ + HOUR - 1) == row
    assert feed.end == int(feed.panel.closes[-1])


def test_a_market_without_basis_is_refused() -> None:
    with pytest.raises(DataError, match="basis"):
        SimulatedFeed(simulate_bars(1, 2, 2, HOURLY))
