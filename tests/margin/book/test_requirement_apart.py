"""The requirement is summed apart from equity: no amount of cash takes a digit from it."""

from __future__ import annotations

import json
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.book.requirement import compute_requirement
from margin.cases.margin_cases import run_case
from margin.engines.registry import compute_margins
from margin.liquidation.partial import liquidation_step
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from margin.valuation.view import MarketView
from margin.what_if.outcome import marginal_requirements, outcome
from market.accounts.book import Account, Balance, Book, Position

NAMES = ("BTCUSDT", "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT")
ONE_UNDERLYING = ("deribit-portfolio-like", "derive-pmrm2")
OPTIONS = ("derive-srm", "derive-srm-v2", "deribit-standard", "derive-pmrm2", "paradex-portfolio")

every_preset = pytest.mark.parametrize("preset", list_rulesets())
cash = st.sampled_from([0.0, 1e9, -1e12, 1e15, -1e17, 1e17]) | st.floats(-1e17, 1e17)
positions = st.lists(
    st.tuples(st.sampled_from(NAMES), st.floats(-50.0, 50.0)),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one[0],
)


@cache
def rules(preset: str) -> RuleSet:
    return load_ruleset(preset)


@every_preset
@given(amount=cash, held=positions, coins=st.floats(-5.0, 5.0))
def test_margins_of_a_book_do_not_know_the_cash(
    market: MarketView,
    preset: str,
    amount: float,
    held: list[tuple[str, float]],
    coins: float,
) -> None:
    if preset in ONE_UNDERLYING:
        held = [one for one in held if one[0].startswith("BTC")] or [("BTCUSDT", 1.0)]
    legs = tuple(Position(name, quantity, None) for name, quantity in held)
    balances = (Balance("BTC", coins),)
    poor, rich = Account("a", 0.0, legs, balances), Account("b", amount, legs, balances)
    got = compute_requirement(Book.of([poor, rich]), market, rules(preset))
    assert got.problems == {}
    assert got.initial_margin[0] == got.initial_margin[1] >= 0.0
    assert got.maintenance_margin[0] == got.maintenance_margin[1] >= 0.0
    assert got.headroom.tolist() == (got.equity - got.maintenance_margin).tolist()


def options_portfolio(amount: float, sizes: list[float]) -> Portfolio:
    week = 7 * 86_400.0
    expiry = Expiry(week, 100_500.0, 0.03)
    strikes = (90_000.0, 100_000.0, 100_000.0, 110_000.0)
    legs = tuple(
        Holding(
            kind="option",
            underlying="BTC",
            quantity=size,
            seconds_to_expiry=week,
            strike=strike,
            type="call" if k % 2 else "put",
            vol=0.6,
        )
        for k, (size, strike) in enumerate(zip(sizes, strikes, strict=True))
    )
    perp = Holding(kind="perp", underlying="BTC", quantity=sizes[0], entry_price=99_000.0)
    return Portfolio(
        cash=amount,
        stable_price=0.97,
        underlyings={"BTC": Underlying(100_000.0, 0.9, 100_100.0, 0.8, expiries=(expiry,))},
        positions=(*legs, perp),
        collateral=(CollateralBalance(asset="BTC", amount=0.5, price=100_000.0, underlying="BTC"),),
    )


@pytest.mark.parametrize("preset", OPTIONS)
@given(amount=cash, sizes=st.lists(st.floats(-9.0, 9.0), min_size=4, max_size=4))
def test_margins_with_options_do_not_know_the_cash(
    preset: str, amount: float, sizes: list[float]
) -> None:
    ruleset = rules(preset)
    poor, rich = (options_portfolio(money, sizes) for money in (0.0, amount))
    margins = compute_margins(flatten([poor, rich], ruleset.collateral), ruleset)
    assert margins.initial_margin[0] == margins.initial_margin[1]
    assert margins.maintenance_margin[0] == margins.maintenance_margin[1]
    for net, margin, components in (
        (margins.initial_net, margins.initial_margin, margins.initial),
        (margins.maintenance_net, margins.maintenance_margin, margins.maintenance),
    ):
        # The requirement is what the components say, where cash hides nothing of them.
        assert sum(float(one[0]) for one in components.values()) == pytest.approx(
            float(net[0]), rel=1e-9, abs=1e-6
        )
        assert net.tolist() == (margins.equity - margin).tolist()
    one, other = outcome(poor, ruleset), outcome(rich, ruleset)
    assert one.initial_requirement == other.initial_requirement
    assert one.maintenance_requirement == other.maintenance_requirement


def test_the_case_of_a_short_option_keeps_its_digits() -> None:
    short = options_portfolio(0.0, [0.0, -0.001, 0.0, 0.0])
    plain = outcome(short, rules("derive-srm"))
    for amount in (1e15, 1e17):
        rich = outcome(msgspec.structs.replace(short, cash=amount), rules("derive-srm"))
        assert rich.maintenance_requirement == plain.maintenance_requirement > 0.0
    adds = marginal_requirements(msgspec.structs.replace(short, cash=1e17), rules("derive-srm"))
    assert adds == marginal_requirements(short, rules("derive-srm"))


def test_a_liquidation_step_counts_the_requirement_itself() -> None:
    short = options_portfolio(0.0, [0.0, -5.0, 0.0, 0.0])
    for amount in (0.0, 1e17):
        step = liquidation_step(msgspec.structs.replace(short, cash=amount), rules("derive-srm"))
        assert step.net_before == pytest.approx(
            amount + outcome(short, rules("derive-srm")).maintenance_net_margin, rel=1e-12
        )
    assert step.requirement_after == outcome(short, rules("derive-srm")).maintenance_requirement


@every_preset
def test_components_of_a_case_add_up_to_its_net_margins(preset: str) -> None:
    portfolio = msgspec.to_builtins(options_portfolio(1_000.0, [1.0, -2.0, 0.5, -0.25]))
    if preset not in OPTIONS:
        portfolio["positions"] = [one for one in portfolio["positions"] if one["kind"] == "perp"]
        portfolio["underlyings"]["BTC"]["open_interest"] = 1e6
    if preset == "emir-ccp":
        closes = (100_000.0 * np.exp(np.sin(np.arange(500.0)))).tolist()
        portfolio["history"] = {"until": "2025-01-01T00:00:00Z", "closes": {"BTC": closes}}
    portfolio = {key: value for key, value in portfolio.items() if value is not None}
    answer = run_case(json.dumps({"id": 1, "portfolio": portfolio, "ruleset": preset}).encode())
    assert "error" not in answer, answer
    for level in ("initial", "maintenance"):
        components = answer["components"][level]
        assert sum(components.values()) == pytest.approx(answer[f"{level}_net_margin"], rel=1e-12)


def test_overflow_of_one_account_touches_no_neighbour(market: MarketView) -> None:
    sound = Account("sound", 5.0, (Position("BTCUSDT-PERP", 0.01),), (Balance("BTC", 0.1),))
    sizes = (1e303, -1.65e303, 1e308, 5e-324)
    wild = [Account(str(size), 1.0, (Position("BTCUSDT-PERP", size),)) for size in sizes]
    wild.append(Account("coins", 1.0, (), (Balance("BTC", 1e305),)))
    wild.append(Account("cash", 1e308, (), (Balance("USD", 1e308),)))
    for preset in list_rulesets():
        ruleset = rules(preset)
        alone = compute_requirement(Book.of([sound]), market, ruleset)
        got = compute_requirement(Book.of([*wild, sound]), market, ruleset)
        assert got.problems.keys() <= set(range(6)), preset
        assert {2, 5} <= got.problems.keys(), preset
        for field in ("equity", "initial_margin", "maintenance_margin", "headroom"):
            figure = getattr(got, field)
            assert figure[-1] == getattr(alone, field)[0], preset
            known = [i for i in range(7) if i not in got.problems]
            assert np.isfinite(figure[known]).all(), preset
