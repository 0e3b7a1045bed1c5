"""Wrong-way collateral: worked numbers, debts, and the share that is needed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import norm

from margin.book.requirement import compute_requirement
from margin.floors.registry import FLOORS
from margin.rules.floors import CoverageRules, FloorRules, WrongWayRules
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position

RULES = FloorRules(wrong_way=WrongWayRules(), coverage=CoverageRules())
Z = float(norm.ppf(0.99)) * math.sqrt(48)
RHO = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
HAIRCUT = 0.05
VOLATILITY = [0.01, 0.012, 0.02]

Make = Callable[..., MarketView]


@pytest.fixture(scope="module")
def market(make_view: Make) -> MarketView:
    return make_view(correlation=RHO, fast_correlation=RHO, volatility=VOLATILITY)


def floor_of(
    view: MarketView,
    ruleset: RuleSet,
    positions: dict[str, float],
    held: dict[str, float],
    cash: float = 0.0,
) -> float:
    account = Account(
        "a",
        cash,
        tuple(Position(f"{coin}USDT", quantity) for coin, quantity in positions.items()),
        tuple(Balance(coin, amount) for coin, amount in held.items()),
    )
    requirement = compute_requirement(Book.of([account]), view, ruleset)
    return float(FLOORS["wrong_way"].amount(requirement, view, RULES)[0])


def test_bitcoin_that_secures_a_long_bitcoin_book_falls_with_it(
    market: MarketView, linear_tiers: RuleSet
) -> None:
    # 1e5 long, 1e4 of coins: all of it is needed.
    loss = 1e4 * (Z * 0.01 - HAIRCUT)
    expected = 1e5 * Z * 0.01 + loss - 0.02 * 1e5
    got = floor_of(market, linear_tiers, {"BTC": 1.0}, {"BTC": 0.1})
    assert got == pytest.approx(expected, rel=1e-12)


def test_calm_market_uses_the_long_volatility(make_view: Make, linear_tiers: RuleSet) -> None:
    view = make_view(volatility=[0.002] * 3, long_volatility=[0.01, np.nan, 0.0], correlation=RHO)
    loss = 1e4 * (Z * 0.01 - HAIRCUT)
    expected = 1e5 * Z * 0.01 + loss - 0.02 * 1e5
    got = floor_of(view, linear_tiers, {"BTC": 1.0}, {"BTC": 0.1})
    assert got == pytest.approx(expected, rel=1e-12)
    # Ether, whose long volatility is not known, is calm: its haircut covers it.
    assert floor_of(view, linear_tiers, {"ETH": 50.0}, {"ETH": 5.0}) == 0.0


def test_correlation_with_the_book_decides_how_far_collateral_falls(
    market: MarketView, linear_tiers: RuleSet
) -> None:
    exposure = np.array([5e4, 4e4, 0.0]) * VOLATILITY
    variance = exposure @ RHO @ exposure
    rho = RHO[2] @ exposure / math.sqrt(variance)
    loss = 1e4 * max(0.0, Z * 0.02 * rho - 0.2)
    assert loss == 0.0  # the default haircut of 20% covers this one
    assert floor_of(market, linear_tiers, {"BTC": 0.5, "ETH": 20.0}, {"X": 1e4}) == 0.0
    rho = RHO[1] @ exposure / math.sqrt(variance)
    loss = 1e4 * (Z * 0.012 * rho - HAIRCUT)
    expected = Z * math.sqrt(variance) + loss - 0.02 * 9e4
    got = floor_of(market, linear_tiers, {"BTC": 0.5, "ETH": 20.0}, {"ETH": 5.0})
    assert got == pytest.approx(expected, rel=1e-12)


def test_right_way_collateral_and_cash_ask_for_nothing(
    market: MarketView, linear_tiers: RuleSet
) -> None:
    assert floor_of(market, linear_tiers, {"BTC": -1.0}, {"BTC": 0.1}) == 0.0
    assert floor_of(market, linear_tiers, {"BTC": 1.0}, {"USD": 1e4, "USDT": 5.0}) == 0.0
    assert floor_of(market, linear_tiers, {"BTC": 1.0}, {}, cash=1e4) == 0.0


def test_debt_that_grows_as_the_book_loses_counts_without_a_haircut(
    market: MarketView, linear_tiers: RuleSet
) -> None:
    # Short of bitcoin twice: sold, and owed.
    expected = 1e5 * Z * 0.01 + 1e4 * Z * 0.01 - 0.02 * 1e5
    got = floor_of(market, linear_tiers, {"BTC": -1.0}, {"BTC": -0.1}, cash=1e6)
    assert got == pytest.approx(expected, rel=1e-12)
    assert floor_of(market, linear_tiers, {"BTC": 1.0}, {"BTC": -0.1}, cash=1e6) == 0.0


def test_collateral_in_excess_secures_nothing(market: MarketView, linear_tiers: RuleSet) -> None:
    need = 1e5 * Z * 0.01
    share = Z * 0.01 - HAIRCUT
    # What is left of the needed part after its loss holds the margin.
    needed_value = need / (1 - HAIRCUT - share)
    expected = need + needed_value * share - 0.02 * 1e5
    for coins in (1.0, 50.0):
        got = floor_of(market, linear_tiers, {"BTC": 1.0}, {"BTC": coins})
        assert got == pytest.approx(expected, rel=1e-12)


def test_cash_in_its_place_needs_less_collateral(market: MarketView, linear_tiers: RuleSet) -> None:
    floors = [
        floor_of(market, linear_tiers, {"BTC": 1.0}, {"BTC": 1.0}, cash=cash)
        for cash in (0.0, 5e3, 1e4)
    ]
    assert floors == sorted(floors, reverse=True)
    assert floors[0] > floors[-1]
    assert floor_of(market, linear_tiers, {"BTC": 1.0}, {"BTC": 1.0}, cash=1e5) == 0.0


@given(
    long=st.floats(-10, 10),
    other=st.floats(-100, 100),
    coins=st.floats(0, 5),
    more=st.floats(0, 5),
    cash=st.floats(-1e5, 1e5),
)
def test_deposit_of_coins_never_costs_more_than_it_brings(
    market: MarketView,
    linear_tiers: RuleSet,
    long: float,
    other: float,
    coins: float,
    more: float,
    cash: float,
) -> None:
    book = {"BTC": long, "ETH": other}
    # A first coin can switch the scenario on: book and collateral are then asked for together.
    held = floor_of(market, linear_tiers, book, {"BTC": coins}, cash)
    after = floor_of(market, linear_tiers, book, {"BTC": coins + more}, cash)
    if held > 0:
        brought = more * 1e5 * (1 - HAIRCUT)
        assert after - held <= brought * (1 + 1e-9) + 1e-6


def test_faster_correlation_counts_where_it_is_worse(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    apart = np.eye(3)
    worse = np.array([[1.0, 0.95, 0.5], [0.95, 1.0, 0.6], [0.5, 0.6, 1.0]])
    got = [
        floor_of(
            make_view(volatility=VOLATILITY, correlation=slow, fast_correlation=fast),
            linear_tiers,
            {"BTC": 1.0},
            {"ETH": 5.0},
        )
        for slow, fast in ((apart, apart), (apart, worse), (worse, apart))
    ]
    expected = 1e5 * Z * 0.01 + 1e4 * (Z * 0.012 * 0.95 - HAIRCUT) - 0.02 * 1e5
    assert got == [0.0, pytest.approx(expected), pytest.approx(expected)]


def test_unknown_correlation_is_the_worst_there_is(make_view: Make, linear_tiers: RuleSet) -> None:
    view = make_view(volatility=VOLATILITY, correlation=np.full((3, 3), np.nan))
    expected = 1e5 * Z * 0.01 + 1e4 * (Z * 0.012 - HAIRCUT) - 0.02 * 1e5
    for side in (1.0, -1.0):
        got = floor_of(view, linear_tiers, {"BTC": side}, {"ETH": 5.0})
        assert got == pytest.approx(expected, rel=1e-12)
    # An asset is known to move with itself.
    assert floor_of(view, linear_tiers, {"BTC": -1.0}, {"BTC": 0.1}) == 0.0


def test_hedged_book_has_no_losing_scenario(market: MarketView, linear_tiers: RuleSet) -> None:
    account = Account(
        "a",
        0.0,
        (Position("BTCUSDT", 1.0), Position("BTCUSDT-PERP", -1.0)),
        (Balance("BTC", 0.1), Balance("BTC", -0.1)),
    )
    requirement = compute_requirement(Book.of([account]), market, linear_tiers)
    assert FLOORS["wrong_way"].amount(requirement, market, RULES).tolist() == [0.0]
