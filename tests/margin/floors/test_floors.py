"""Liquidity and stale data: worked numbers, and never zero for want of data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.book.requirement import Requirement, compute_requirement
from margin.floors.registry import FLOORS, active_floors, largest_floor
from margin.rules.floors import FloorRules, LiquidityRules, SlippageCurve, StaleDataRules
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position

RULES = FloorRules()


def require(
    view: MarketView, ruleset: RuleSet, *legs: tuple[str, float], cash: float = 0.0
) -> Requirement:
    account = Account("a", cash, tuple(Position(name, quantity) for name, quantity in legs))
    return compute_requirement(Book.of([account]), view, ruleset)


def value(
    name: str, requirement: Requirement, view: MarketView, rules: FloorRules = RULES
) -> float:
    return float(FLOORS[name].amount(requirement, view, rules)[0])


def test_registry_is_exactly_the_tables_of_the_rule_set() -> None:
    assert (*FLOORS, "coverage") == FloorRules.__struct_fields__


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


CURVE = SlippageCurve(0.0001, ((1e3, 0.0002), (1e5, 0.001), (1e6, 0.004)))
DEAR = SlippageCurve(0.002, ((1e4, 0.01),))
DEEP = FloorRules(
    LiquidityRules(impact=0.0, depth={"BTCUSDT": CURVE}, depth_of_others=DEAR, confidence=0.0)
)


@pytest.mark.parametrize(
    ("symbol", "notional", "share"),
    [
        ("BTCUSDT", 500.0, 0.00015),  # half-way from the half-spread to the first point
        ("BTCUSDT-PERP", -1e3, 0.0002),
        ("BTCUSDT", 50_500.0, 0.0006),
        ("BTCUSDT", -1e6, 0.004),
        ("BTCUSDT", 4e6, 0.008),  # four times the last size: twice the cost
        ("ETHUSDT", 1e4, 0.01),  # no figures of its own
        ("ETHUSDT", 9e4, 0.03),
    ],
)
def test_liquidity_reads_the_cost_off_the_order_books(
    view: MarketView, linear_tiers: RuleSet, symbol: str, notional: float, share: float
) -> None:
    price = float(view.mark[view.index()[symbol.removesuffix("-PERP")]])
    got = value("liquidity", require(view, linear_tiers, (symbol, notional / price)), view, DEEP)
    assert got == pytest.approx(abs(notional) * share, rel=1e-12)


def test_liquidity_takes_the_law_when_the_market_is_wilder_than_the_books_were(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    rules = FloorRules(LiquidityRules(depth={"BTCUSDT": CURVE}, depth_of_others=DEAR))
    view = make_view(volatility=[0.05, 0.05, 0.05])
    got = value("liquidity", require(view, linear_tiers, ("BTCUSDT", 10.0)), view, rules)
    # 1e6 at a tenth of a per cent of the volume: the law asks 0.0001 + 0.245 * sqrt(0.001).
    law = 0.0001 + 0.05 * math.sqrt(24) * math.sqrt(1e-3)
    assert law > 0.004
    assert got == pytest.approx(1e6 * law, rel=1e-12)


def test_suspect_price_counts_as_stale(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    view = make_view(suspect=[True, False, True], age_hours=[0.0, 0.0, 100.0])
    legs = [("BTCUSDT", -1.0), ("ETHUSDT", 10.0), ("XUSDT", 100.0)]
    # Fresh but quarantined is as old as an unknown age; older stays older.
    expected = 1e5 * 0.005 * 2.33 * math.sqrt(24) + 100 * min(1.0, 0.02 * 2.33 * 10)
    got = value("stale_data", require(view, linear_tiers, *legs), view)
    assert got == pytest.approx(expected, rel=1e-12)
    assert value("stale_data", require(view, linear_tiers, ("ETHUSDT", 1.0)), view) == 0.0


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
