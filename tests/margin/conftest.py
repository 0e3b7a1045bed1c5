"""A small market and the embedded rule set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from margin.ruleset import RuleSet, load_ruleset
from margin.view import MarketView

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
        arrays = {
            key: np.array(value, dtype=np.bool_ if key == "suspect" else np.float64)
            for key, value in given.items()
        }
        return MarketView(as_of=0, symbols=SYMBOLS, **arrays)

    return make


@pytest.fixture(scope="session")
def view(make_view: Callable[..., MarketView]) -> MarketView:
    return make_view()
