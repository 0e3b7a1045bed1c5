"""Scaled tier margins over a book of one market: the engine's figures, and errors by account."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import CollateralBalance, Holding, Portfolio, Underlying
from margin.book.requirement import compute_requirement
from margin.engines.registry import compute_margins
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position
from market.core.errors import InstrumentError
from market.quotes.quotes import InstrumentQuote, QuoteBoard

PRICES = {"BTC": 100_000.0, "ETH": 2_000.0, "X": 1.0}
INTEREST = {"X": 35e6}
"""Units of the underlying: of the price 1, the notional as well."""

amounts = st.floats(-1e4, 1e4)
coins = st.sampled_from(["BTC", "ETH", "X"])


def scaled(name: str) -> RuleSet:
    """The preset, with what it has of X in the class of SOL."""
    content = load_ruleset(name).content()
    for own in content["tier"].get("classes", {}).values():
        own["symbols"] = ["XUSDT" if s == "SOLUSDT" else s for s in own["symbols"]]
    return ruleset_from_content(content)


def quoted(view: MarketView) -> MarketView:
    board = QuoteBoard(
        instruments={
            f"{coin}USDT-PERP": InstrumentQuote(0, open_interest=amount)
            for coin, amount in INTEREST.items()
        }
    )
    return dataclasses.replace(view, quotes=board)


@pytest.mark.parametrize("name", ["dydx-v4", "drift-v2"])
@given(
    cash=amounts,
    positions=st.lists(st.tuples(coins, amounts), max_size=4),
    balances=st.lists(st.tuples(coins, amounts), max_size=3),
)
def test_book_and_portfolio_have_the_same_margins(
    make_view: Callable[..., MarketView],
    name: str,
    cash: float,
    positions: list[tuple[str, float]],
    balances: list[tuple[str, float]],
) -> None:
    ruleset, view = scaled(name), quoted(make_view())
    account = Account(
        "a",
        cash,
        tuple(
            Position(f"{coin}USDT-PERP", amount, 0.9 * PRICES[coin]) for coin, amount in positions
        ),
        tuple(Balance(coin, amount) for coin, amount in balances),
    )
    got = compute_requirement(Book.of([account]), view, ruleset)
    assert got.problems == {}
    portfolio = Portfolio(
        cash=cash,
        stable_price=1.0,
        underlyings={
            coin: Underlying(price, perp_price=price, open_interest=INTEREST.get(coin, 0.0) * price)
            for coin, price in PRICES.items()
        },
        positions=tuple(
            Holding(kind="perp", underlying=coin, quantity=amount, entry_price=0.9 * PRICES[coin])
            for coin, amount in positions
        ),
        collateral=tuple(
            CollateralBalance(asset=coin, amount=amount, price=PRICES[coin])
            for coin, amount in balances
        ),
    )
    want = compute_margins(flatten([portfolio], ruleset.collateral), ruleset)
    room = 1e-9 * (1.0 + abs(cash) + float(np.abs(got.gross_notional[0])) + 1e9)
    assert got.headroom[0] == pytest.approx(want.maintenance_net[0], abs=room)
    assert got.equity[0] - got.initial_margin[0] == pytest.approx(want.initial_net[0], abs=room)
    assert got.maintenance_margin[0] >= -room
    assert got.initial_margin[0] >= got.maintenance_margin[0] - room


def test_open_interest_that_is_not_quoted_is_the_problem_of_its_account(
    make_view: Callable[..., MarketView],
) -> None:
    ruleset = scaled("dydx-v4")
    accounts = [
        Account("no interest", 10.0, (Position("XUSDT-PERP", 1.0),), ()),
        Account("large cap", 10.0, (Position("BTCUSDT-PERP", 1e-4),), ()),
        Account("nothing of it", 10.0, (Position("XUSDT-PERP", 0.0),), ()),
    ]
    got = compute_requirement(Book.of(accounts), make_view(), ruleset)
    assert list(got.problems) == [0]
    error = got.problems[0]
    assert isinstance(error, InstrumentError)
    assert "'no interest'" in str(error)
    assert "open_interest" in str(error)
    np.testing.assert_allclose(got.maintenance_margin[1:], [0.12, 0.0])
    told = compute_requirement(Book.of(accounts), quoted(make_view()), ruleset)
    assert told.problems == {}
    # (35 - 40) million under the lower cap of the mid caps, so their 5%.
    np.testing.assert_allclose(told.initial_margin, [0.05, 0.2, 0.0])


def test_splitting_a_position_does_not_lower_a_size_premium(
    make_view: Callable[..., MarketView],
) -> None:
    ruleset, view = scaled("drift-v2"), make_view()
    whole = Account("whole", 1e9, (Position("XUSDT-PERP", 1e4),), ())
    parts = tuple(Position("XUSDT-PERP", 1e4 / 8) for _ in range(8))
    got = compute_requirement(Book.of([whole, Account("parts", 1e9, parts, ())]), view, ruleset)
    # max(10%, 8% + 0.001 sqrt(10 000)) and max(5%, 4% + 10%) of 10,000.
    np.testing.assert_allclose(got.initial_margin, 1_800.0)
    np.testing.assert_allclose(got.maintenance_margin, 1_400.0)
    assert got.leg_maintenance_margin.sum() == pytest.approx(2 * 1_400.0)
