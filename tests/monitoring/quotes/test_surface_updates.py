"""Surfaces that are quoted: context of the step, as in history to the last bit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from features.market.option_surface import surface_figures
from features.state.market_state import MarketState
from market.bars.panel import CURVATURE, EXOGENOUS_WIDTH, SKEW, TERM_SLOPE
from market.core.clock import DAY, HOUR, format_time
from market.sources.http import BarIn, QuoteIn, SviIn, bar_updates, quote_updates
from monitoring.market_state.live_market import LiveMarket

NAMES = ("skew_25d", "atm_term_slope", "smile_curvature")


def expiry(live: LiveMarket, days: int) -> str:
    at = live.state.newest_close
    assert at is not None
    day = datetime.fromtimestamp((at + days * DAY) / 1e9, UTC)
    return f"BTC-{day.day}{day:%b%y}".upper()


def surface(live: LiveMarket, days: int, a: float, ts: int | None = None) -> dict[str, Any]:
    svi = SviIn(a, 0.08, -0.4, 0.02, 0.2)
    quote: dict[str, Any] = {
        "instrument": expiry(live, days),
        "forward": 60_000.0,
        "rate": 0.0,
        "svi": svi,
    }
    return quote if ts is None else quote | {"ts": format_time(ts)}


def post(live: LiveMarket, *quotes: dict[str, Any]) -> None:
    response = live.post_quotes(quote_updates([QuoteIn(**quote) for quote in quotes]).updates)
    assert {result.status for result in response.results} == {"applied"}


def columns(live: LiveMarket) -> list[float]:
    at = live.state.newest_close
    assert at is not None
    features = live.snapshot(at).features
    column = features.symbols.index("BTCUSDT")
    return [float(features.column(name)[0, column]) for name in NAMES]


def pending(market: Any) -> LiveMarket:
    """A market whose newest step has its bars and still takes exogenous values."""
    last = len(market.panel) - 1
    live: LiveMarket = market.head(last).live()
    live.post(
        "1h", bar_updates([BarIn(**bar) for bar in market.bars(range(last, last + 1))]).updates
    )
    return live


def test_quoted_surface_moves_the_pending_step(market: Any) -> None:
    live = pending(market)
    assert np.isnan(columns(live)).all()
    post(live, surface(live, 30, 0.01))
    assert np.isnan(columns(live)).all()  # one expiry is no surface
    post(live, surface(live, 90, 0.03))
    at = live.state.newest_close
    assert at is not None
    board = live.snapshot(at).quotes
    assert board is not None
    want = surface_figures(board, "BTC", at)
    assert want is not None
    assert columns(live) == list(want)
    post(live, surface(live, 90, 0.05))
    assert columns(live)[1] > want.term_slope


def test_quoted_surface_is_in_the_features_as_context_of_history_is(
    market: Any,
) -> None:
    small = market.head(len(market.panel) - 1)
    live = small.live()
    last = len(market.panel) - 1
    at = int(market.panel.closes[-1])
    # Told before the bar: it waits for its step.
    post(live, surface(live, 30, 0.01, at - HOUR // 2), surface(live, 90, 0.03, at - HOUR // 2))
    bars = market.bars(range(last, last + 1))
    live.post("1h", bar_updates([BarIn(**bar) for bar in bars]).updates)
    board = live.snapshot(at).quotes
    assert board is not None
    figures = surface_figures(board, "BTC", at)
    assert figures is not None
    context = np.full((len(market.panel), len(market.panel.symbols), EXOGENOUS_WIDTH), np.nan)
    column = market.panel.symbols.index("BTCUSDT")
    context[-1, column, [SKEW, TERM_SLOPE, CURVATURE]] = figures
    panel = replace(market.panel, exogenous=context)
    batch = MarketState(panel.symbols, panel.interval).advance(panel)
    assert live.snapshot(at).features.values.tobytes() == batch.values[-1:].tobytes()


@pytest.mark.parametrize("days", [2, 400])
def test_quotes_of_a_coin_without_bars_change_no_exogenous_series(market: Any, days: int) -> None:
    live = pending(market)
    other = [surface(live, days, 0.01), surface(live, days + 5, 0.01)]
    quotes = [QuoteIn(**(one | {"instrument": f"N{one['instrument']}"})) for one in other]
    live.post_quotes(quote_updates(quotes).updates)
    assert np.isnan(columns(live)).all()
