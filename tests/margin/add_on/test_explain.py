"""The explain twin: parts add up, counterfactuals do what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.add_on.bounds import ModelLevel, add_on_cap, bound_add_on, deposit_to_meet
from margin.add_on.explain import Explanation, explain, explain_engine
from margin.add_on.reduction import reduction_fractions
from margin.book.requirement import compute_requirement
from margin.floors.registry import active_floors, floor_terms, largest_floor
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position

NAN = float("nan")


def decide(
    account: Account, model: float, view: MarketView, rules: RuleSet, known: bool = True
) -> Explanation:
    book = Book.of([Account("other", 1.0, (Position("XUSDT", 3.0),)), account])
    requirement = compute_requirement(book, view, rules)
    floors = active_floors(requirement, view, rules.floors)
    levels = np.array([NAN, model])
    add_on = bound_add_on(
        levels,
        largest_floor(floors, requirement),
        add_on_cap(requirement.initial_margin, rules.add_on),
        np.full(2, NAN),
        np.full(2, NAN),
        requirement.initial_margin,
        False,
        rules.add_on,
    )
    by_horizon = np.array([[NAN, NAN], [0.0, model]])
    search = ModelLevel((1, 8), by_horizon, levels) if known else None
    terms = floor_terms(requirement, view, rules.floors)
    cut = float(reduction_fractions(requirement, rules, add_on.level)[1])
    engine = explain_engine(1, requirement, rules, cut)
    return explain(1, book, requirement, floors, terms, search, add_on, engine)


def test_worked_decision(view: MarketView, linear_tiers: RuleSet) -> None:
    legs = (Position("BTCUSDT-PERP", 0.1), Position("ETHUSDT", -5.0))
    got = decide(Account("a", 1_000.0, legs), 900.0, view, linear_tiers)
    assert [part.instrument for part in got.positions] == ["BTCUSDT-PERP", "ETHUSDT"]
    assert [part.maintenance_margin for part in got.positions] == pytest.approx([200, 200])
    assert [part.initial_margin for part in got.positions] == pytest.approx([400, 400])
    assert got.model_by_horizon == {1: 0.0, 8: 900.0}
    assert (got.binding, got.add_on, got.before_clamp) == ("model", 900.0, 900.0)
    assert got.cap == pytest.approx(2_400)
    assert got.floor == max(got.floors.values()) == got.floors["liquidity"]
    assert got.total_requirement == pytest.approx(1_300)
    assert got.deposit == pytest.approx(300)
    assert got.reduction_fraction == pytest.approx(1 - 1_000 / 1_300, abs=2.0**-16)
    assert got.total_requirement * (1 - got.reduction_fraction) <= 1_000
    json.dumps(got.to_dict(), allow_nan=False)


def test_missing_model_is_explained_without_nan(view: MarketView, linear_tiers: RuleSet) -> None:
    account = Account("a", 1_000.0, (Position("BTCUSDT", 0.1),))
    got = decide(account, NAN, view, linear_tiers, known=False)
    assert got.binding == "fallback"
    assert got.add_on == got.floor > 0
    assert (got.model_level, got.before_clamp, got.model_by_horizon) == (None, None, {})
    json.dumps(got.to_dict(), allow_nan=False)


@given(
    cash=st.floats(-1e6, 1e6),
    model=st.floats(allow_nan=True, allow_infinity=True),
    quantities=st.lists(st.floats(-1e3, 1e3), max_size=4),
)
def test_parts_add_up_and_the_requirement_is_never_below_the_rules(
    view: MarketView,
    linear_tiers: RuleSet,
    cash: float,
    model: float,
    quantities: list[float],
) -> None:
    legs = tuple(Position("ETHUSDT-PERP", quantity) for quantity in quantities)
    got = decide(Account("a", cash, legs), model, view, linear_tiers)
    total = 0.0
    for part in got.positions:
        total += part.maintenance_margin
    assert total + got.engine.unallocated == pytest.approx(got.maintenance_margin, rel=1e-12)
    assert got.engine.unallocated == pytest.approx(0.0, abs=1e-12 * total)
    assert math.fsum(part.maintenance for part in got.engine.parts) == pytest.approx(
        cash - total, abs=1e-12 * (abs(cash) + total)
    )
    assert got.maintenance_margin + got.add_on == got.total_requirement >= got.maintenance_margin
    assert got.floor <= got.add_on <= max(got.floor, got.cap)
    assert got.floor == max(got.floors.values())
    json.dumps(got.to_dict(), allow_nan=False)


@given(
    cash=st.integers(-100_000, 100_000),
    quantity=st.floats(-1e3, 1e3),
    model=st.floats(0, 1e5),
)
def test_after_the_deposit_or_the_cut_nothing_is_missing(
    view: MarketView, linear_tiers: RuleSet, cash: int, quantity: float, model: float
) -> None:
    legs = (Position("ETHUSDT-PERP", quantity),)
    before = decide(Account("a", float(cash), legs), model, view, linear_tiers)
    after = decide(Account("a", cash + before.deposit, legs), model, view, linear_tiers)
    # The level does not follow the deposit, so it is not asked for twice.
    assert after.add_on == before.add_on
    assert after.deposit <= (0.01 if after.total_requirement > 1e-9 * abs(cash) else 0.0)
    required = before.total_requirement
    assert cash + before.deposit >= required * (1 - 1e-12) - 1e-9
    if cash > 0:
        assert cash >= required * (1 - before.reduction_fraction) * (1 - 1e-9)


def test_deposit_counterfactual_is_the_decision_field(
    view: MarketView, linear_tiers: RuleSet
) -> None:
    account = Account("a", 10.0, (Position("BTCUSDT", 0.123),))
    got = decide(account, 77.7, view, linear_tiers)
    headroom = np.array([10.0 - got.maintenance_margin])
    assert got.deposit == deposit_to_meet(np.array([got.add_on]), headroom)[0]


def test_parts_of_every_active_floor_add_up_to_it(make_view: Callable[..., MarketView]) -> None:
    rules = load_ruleset("emir-tiers")
    rho = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
    view = make_view(
        age_hours=[5.0, 0.0, 0.0],
        correlation=rho,
        fast_correlation=rho,
        volatility=[0.01, 0.01, 0.03],
        long_volatility=[0.012, 0.012, 0.03],
        history_hours=[2e4, 2e4, 2e4],
        suspect=[False, True, False],
    )
    legs = (Position("BTCUSDT-PERP", 0.5), Position("BTCUSDT", -0.1), Position("ETHUSDT", 9.0))
    got = decide(Account("a", 100.0, legs, (Balance("BTC", 0.02),)), NAN, view, rules)
    assert set(got.floor_parts) == set(got.floors) == set(rules.floors.enabled())
    for name, parts in got.floor_parts.items():
        assert got.floors[name] > 0.0
        assert sum(part.amount for part in parts) == pytest.approx(got.floors[name], rel=1e-9)
        for part in parts:
            assert part.reason
            if part.by:
                assert sum(portion.amount for portion in part.by) == pytest.approx(part.amount)
    by_name = {part.name: part for part in got.floor_parts["volatility"]}
    assert [portion.subject for portion in by_name["underlying_alone"].by] == [
        "BTCUSDT-PERP",
        "BTCUSDT",
        "ETHUSDT",
    ]
    # The hedge in the same coin is seen as one.
    assert [portion.amount > 0 for portion in by_name["underlying_alone"].by] == [True, False, True]
    loss = next(part for part in got.floor_parts["wrong_way"] if part.name == "collateral_loss")
    assert [portion.subject for portion in loss.by] == ["BTC"]
    stale = {part.name: [p.subject for p in part.by] for part in got.floor_parts["stale_data"]}
    assert stale == {"stale_price": ["BTCUSDT-PERP", "BTCUSDT"], "suspect_price": ["ETHUSDT"]}
    json.dumps(got.to_dict(), allow_nan=False)


def test_floors_of_an_account_with_nothing_have_no_parts(
    view: MarketView, linear_tiers: RuleSet
) -> None:
    got = decide(Account("a", 5.0), NAN, view, linear_tiers)
    assert got.floor_parts == {"liquidity": (), "stale_data": ()}
