"""Rule floors: worked numbers, and never zero, negative or infinite for want of data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from margin.floors import FLOORS, active_floors, largest_floor
from margin.requirement import Requirement, compute_requirement
from margin.ruleset import FloorRules, LiquidityRules, RuleSet, StaleDataRules
from margin.view import MarketView
from market.book import Account, Book, Position

RULES = FloorRules()
ANY = st.floats(allow_nan=True, allow_infinity=True)


def require(
    view: MarketView, ruleset: RuleSet, *legs: tuple[str, float], cash: float = 0.0
) -> Requirement:
    account = Account("a", cash, tuple(Position(name, quantity) for name, quantity in legs))
    return compute_requirement(Book.of([account]), view, ruleset)


def value(
    name: str, requirement: Requirement, view: MarketView, rules: FloorRules = RULES
) -> float:
    return float(FLOORS[name](requirement, view, rules)[0])


def test_registry_is_exactly_the_tables_of_the_rule_set() -> None:
    assert tuple(FLOORS) == FloorRules.__struct_fields__


def test_liquidity_worked_number_within_one_day(view: MarketView, linear_tiers: RuleSet) -> None:
    # 1e7 of BTC against a volume of 1e9: participation 1%, a tenth of a day to close.
    daily = 0.005 * math.sqrt(24)
    expected = 1e7 * (0.0005 + daily * 0.1)
    got = value("liquidity", require(view, linear_tiers, ("BTCUSDT-PERP", -100.0)), view)
    assert got == pytest.approx(expected, rel=1e-12)


def test_liquidity_worked_number_when_concentrated(view: MarketView, linear_tiers: RuleSet) -> None:
    # 4e8 against 1e9: participation 40%, four days to close, three of them extra.
    daily = 0.005 * math.sqrt(24)
    expected = 4e8 * (0.0005 + daily * math.sqrt(0.4) + 2.33 * daily * math.sqrt(3 / 3))
    got = value("liquidity", require(view, linear_tiers, ("BTCUSDT", 4_000.0)), view)
    assert got == pytest.approx(expected, rel=1e-12)


def test_liquidity_unknown_figures_take_the_declared_ones(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    view = make_view(volatility=[np.nan] * 3, adv=[np.nan] * 3)
    expected = 1e5 * (0.0005 + 0.02 * math.sqrt(24) * math.sqrt(0.1))
    got = value("liquidity", require(view, linear_tiers, ("BTCUSDT", 1.0)), view)
    assert got == pytest.approx(expected, rel=1e-12)


def test_liquidity_of_a_dead_contract_costs_the_whole_position(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    for volatility in (0.005, 0.0):
        view = make_view(adv=[0.0] * 3, volatility=[volatility] * 3)
        got = value("liquidity", require(view, linear_tiers, ("BTCUSDT", -2.0)), view)
        assert got == 2e5


def test_stale_data_worked_number(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    view = make_view(age_hours=[9.0, 2.0, np.nan])
    legs = [("BTCUSDT", -1.0), ("ETHUSDT", 10.0), ("XUSDT", 100.0)]
    # BTC is nine hours old, ETH fresh at exactly two intervals, X was never seen: 24 h.
    expected = 1e5 * 0.005 * 2.33 * 3 + 100 * min(1.0, 0.02 * 2.33 * math.sqrt(24))
    got = value("stale_data", require(view, linear_tiers, *legs), view)
    assert got == pytest.approx(expected, rel=1e-12)


def test_stale_data_is_nothing_while_fresh(view: MarketView, linear_tiers: RuleSet) -> None:
    assert value("stale_data", require(view, linear_tiers, ("BTCUSDT", 5.0)), view) == 0.0


def test_unknown_volatility_of_stale_data_is_never_zero(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    view = make_view(age_hours=[np.nan] * 3, volatility=[np.nan] * 3)
    got = value("stale_data", require(view, linear_tiers, ("BTCUSDT", 1.0)), view)
    assert got == pytest.approx(1e5 * 0.02 * 2.33 * math.sqrt(24))


@given(
    volatility=st.tuples(ANY, ANY),
    adv=st.tuples(ANY, ANY),
    age=st.tuples(ANY, ANY),
    quantities=st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
)
def test_floors_are_finite_and_not_negative_whatever_the_market_shows(
    make_view: Callable[..., MarketView],
    linear_tiers: RuleSet,
    volatility: tuple[float, float],
    adv: tuple[float, float],
    age: tuple[float, float],
    quantities: tuple[float, float],
) -> None:
    view = make_view(volatility=[*volatility, 0.01], adv=[*adv, 1e6], age_hours=[*age, np.nan])
    legs = list(zip(("BTCUSDT", "ETHUSDT-PERP"), quantities, strict=True))
    requirement = require(view, linear_tiers, *legs)
    for name in FLOORS:
        assert 0 <= value(name, requirement, view) <= requirement.gross_notional[0]
    # Below the smallest normal number there is no half-spread left to charge.
    if requirement.gross_notional[0] > 1e-300:
        assert value("liquidity", requirement, view) > 0


@given(quantity=st.floats(0, 1e6), more=st.floats(1, 10))
def test_closing_more_never_costs_less(
    view: MarketView, linear_tiers: RuleSet, quantity: float, more: float
) -> None:
    small = value("liquidity", require(view, linear_tiers, ("ETHUSDT", quantity)), view)
    large = value("liquidity", require(view, linear_tiers, ("ETHUSDT", -quantity * more)), view)
    assert small <= large * (1 + 1e-12)


def test_switched_off_floors_do_not_count(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    view = make_view(age_hours=[100.0] * 3)
    requirement = require(view, linear_tiers, ("BTCUSDT", 1.0))
    both = active_floors(requirement, view, RULES)
    assert largest_floor(both, requirement)[0] == max(both["liquidity"][0], both["stale_data"][0])
    one = FloorRules(stale_data=StaleDataRules(enabled=False))
    assert list(active_floors(requirement, view, one)) == ["liquidity"]
    none = FloorRules(LiquidityRules(enabled=False), StaleDataRules(enabled=False))
    assert largest_floor(active_floors(requirement, view, none), requirement).tolist() == [0.0]


def test_account_with_a_problem_has_no_floor(view: MarketView, linear_tiers: RuleSet) -> None:
    for requirement in (
        require(view, linear_tiers, ("DOGEUSDT", 1.0)),
        require(view, linear_tiers, ("BTCUSDT", 1.0), cash=np.nan),
    ):
        floors = active_floors(requirement, view, RULES)
        assert all(np.isnan(floor).all() for floor in floors.values())
        assert np.isnan(largest_floor(floors, requirement)).all()


def test_floor_alone_equals_floor_in_a_book(view: MarketView, linear_tiers: RuleSet) -> None:
    rng = np.random.default_rng(5)
    book = [
        Account(
            str(i),
            0.0,
            tuple(
                Position(str(rng.choice(["BTCUSDT", "ETHUSDT", "XUSDT"])), float(rng.normal()))
                for _ in range(rng.integers(0, 5))
            ),
        )
        for i in range(20)
    ]
    whole = compute_requirement(Book.of(book), view, linear_tiers)
    for name, floor in FLOORS.items():
        together = floor(whole, view, RULES)
        for i, account in enumerate(book):
            alone = compute_requirement(Book.of([account]), view, linear_tiers)
            assert value(name, alone, view) == together[i]
