"""A small market and the embedded rule set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.bars.daily_closes import DailyCloses
from market.core.clock import DAY
from market.quotes.quotes import InstrumentQuote, QuoteBoard

SYMBOLS = ("BTCUSDT", "ETHUSDT", "XUSDT")


@pytest.fixture(scope="session")
def linear_tiers() -> RuleSet:
    return load_ruleset("linear-tiers")


@pytest.fixture(scope="session")
def make_view() -> Callable[..., MarketView]:
    """A view of three symbols; a keyword replaces a column."""

    def make(**columns: object) -> MarketView:
        given = {
            "mark": [100_000.0, 2_000.0, 1.0],
            "age_hours": [0.0, 0.0, 0.0],
            "volatility": [0.005, 0.006, 0.02],
            "adv": [1e9, 5e8, 1e6],
            "correlation": np.eye(3),
            **columns,
        }
        arrays: dict[str, Any] = {
            key: np.array(value, dtype=np.bool_ if key == "suspect" else np.float64)
            for key, value in given.items()
        }
        return MarketView(as_of=0, symbols=SYMBOLS, **arrays)

    return make


@pytest.fixture(scope="session")
def view(make_view: Callable[..., MarketView]) -> MarketView:
    return make_view()


AS_OF = 20_000 * DAY


@pytest.fixture(scope="session")
def market(make_view: Callable[..., MarketView]) -> MarketView:
    """A market that every preset can margin in: daily closes, and the open interest of perps."""
    rng = np.random.default_rng(7)
    returns = rng.normal(0.0, 0.02, (1_000, 3))
    closes = np.array([100_000.0, 2_000.0, 1.0]) * np.exp(np.cumsum(returns, axis=0))
    daily = DailyCloses(SYMBOLS, AS_OF, closes, returns**2)
    interest = {f"{symbol}-PERP": InstrumentQuote(AS_OF, open_interest=1.0) for symbol in SYMBOLS}
    board = QuoteBoard(instruments=interest)
    return dataclasses.replace(make_view(), as_of=AS_OF, daily=daily, quotes=board)
