"""Liquidation and bankruptcy prices: the margin is zero there, in any bracket and both ways."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.case_portfolio import CollateralBalance, Holding, Portfolio, Underlying
from margin.cases.liquidation_cases import run_liquidation_case
from margin.liquidation.account import liquidation_of
from margin.liquidation.crossing import first_nonnegative, first_true
from margin.liquidation.prices import (
    bankruptcy_crossing,
    liquidation_crossing,
    margins_of,
)
from margin.liquidation.shocked_portfolio import reduce_positions, shock_portfolio
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.errors import CaseError


@pytest.fixture(scope="module")
def tiered() -> RuleSet:
    return ruleset_from_content(
        {
            "name": "tiered",
            "version": "1",
            "engine": "tier",
            "source": "test",
            "tier": {
                "brackets": [
                    {"maintenance_rate": 0.005, "initial_rate": 0.01, "upper_bound": 50_000.0},
                    {"maintenance_rate": 0.02, "initial_rate": 0.04, "upper_bound": 250_000.0},
                    {"maintenance_rate": 0.1, "initial_rate": 0.2},
                ]
            },
        }
    )


def account(cash: float, *positions: tuple[str, float, float], btc: float = 0.0) -> Portfolio:
    """An account of perpetuals (underlying, quantity, entry), BTC at 60,000 and ETH at 2,000."""
    return Portfolio(
        cash=cash,
        stable_price=1.0,
        underlyings={
            "BTC": Underlying(spot=60_000.0, perp_price=60_030.0),
            "ETH": Underlying(spot=2_000.0, perp_price=2_001.0),
        },
        positions=tuple(
            Holding(kind="perp", underlying=name, quantity=quantity, entry_price=entry)
            for name, quantity, entry in positions
        ),
        collateral=(CollateralBalance(asset="BTC", amount=btc, price=60_000.0, underlying="BTC"),)
        if btc
        else (),
    )


BRACKETS = ((50_000.0, 0.005, 0.0), (250_000.0, 0.02, 750.0), (math.inf, 0.1, 20_750.0))


def margin(notional: float) -> float:
    return next(
        notional * rate - deduction for bound, rate, deduction in BRACKETS if notional <= bound
    )


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([1.0, -1.0]),
    st.floats(0.05, 8.0),
    st.floats(0.02, 0.9),
    st.floats(-20.0, 20.0),
)
def test_search_agrees_with_the_closed_form_in_every_bracket(
    tiered: RuleSet,
    closed_form: Callable[..., float | None],
    side: float,
    size: float,
    funded: float,
    other: float,
) -> None:
    btc, eth = side * size, round(other, 3)
    positions = [("BTC", btc, 60_500.0)] + ([("ETH", eth, 2_010.0)] if eth else [])
    portfolio = account(funded * size * 60_000.0 + 3_000.0, *positions)
    crossing = liquidation_crossing(portfolio, "BTC", tiered)
    others = 0.0
    if eth:
        others = eth * (2_001.0 - 2_010.0) - margin(abs(eth) * 2_001.0)
    price = closed_form(btc, 60_500.0, portfolio.cash + others, BRACKETS)
    if crossing.passed:
        assert price is None or side * (price - 60_030.0) >= 0.0
        return
    found = crossing.down if side > 0.0 else crossing.up
    assert (crossing.up if side > 0.0 else crossing.down) is None
    if found is None:
        assert price is None or not 1e-3 < price / 60_030.0 < 1e2
        return
    assert price is not None
    assert found * 60_030.0 == pytest.approx(price, rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(
    st.floats(-3.0, 3.0), st.floats(-60.0, 60.0), st.floats(500.0, 60_000.0), st.floats(0.0, 1.0)
)
def test_margin_is_zero_and_changes_sign_at_the_price(
    tiered: RuleSet, btc: float, eth: float, cash: float, pledged: float
) -> None:
    portfolio = account(cash, ("BTC", btc, 60_030.0), ("ETH", eth, 2_001.0), btc=pledged)
    before = copy.deepcopy(portfolio)
    for name in ("BTC", "ETH"):
        liquidation = liquidation_crossing(portfolio, name, tiered)
        bankruptcy = bankruptcy_crossing(portfolio, name, tiered)
        for way, at, end in (
            (-1.0, liquidation.down, bankruptcy.down),
            (1.0, liquidation.up, bankruptcy.up),
        ):
            if at is None:
                assert end is None or liquidation.passed
                continue
            if end is not None:
                assert way * end >= way * at
            there = margins_of(
                [
                    shock_portfolio(portfolio, name, at * (1.0 + k * 1e-9 * way), tiered.collateral)
                    for k in (-1, 0, 1)
                ],
                tiered,
            )
            scale = float(np.abs(there.mark_to_market[1])) + float(there.leg_maintenance.sum())
            gross = scale + abs(btc) * 60_030.0 * at + abs(eth) * 2_001.0 * at
            assert abs(there.maintenance_net[1]) <= 1e-9 * gross
            assert there.maintenance_net[0] > there.maintenance_net[2]
            assert there.maintenance_net[2] < 0.0
    assert portfolio == before


def test_a_move_takes_everything_of_the_underlying_along(linear_tiers: RuleSet) -> None:
    portfolio = account(0.0, ("BTC", 1.0, 60_000.0), ("ETH", 1.0, 2_000.0), btc=1.0)
    unpriced = Holding(kind="perp", underlying="BTC", quantity=2.0)
    profitable = Holding(kind="perp", underlying="BTC", quantity=2.0, unrealised_pnl=5.0)
    portfolio = msgspec.structs.replace(
        portfolio, positions=(*portfolio.positions, unpriced, profitable)
    )
    shifted = shock_portfolio(portfolio, "BTC", 1.5, linear_tiers.collateral)
    assert shifted.underlyings["BTC"].perp_price == 60_030.0 * 1.5
    assert shifted.underlyings["ETH"] == portfolio.underlyings["ETH"]
    assert shifted.collateral[0].price == 90_000.0
    assert shifted.positions[2].entry_price == 60_030.0
    assert shifted.positions[3].unrealised_pnl == pytest.approx(5.0 + 2.0 * 60_030.0 * 0.5)
    assert (
        shock_portfolio(portfolio, "BTC", 1.0, linear_tiers.collateral).positions[3].unrealised_pnl
        == 5.0
    )


def test_reduced_keeps_the_share_that_is_left() -> None:
    portfolio = account(10.0, ("BTC", 1.0, 60_000.0), ("ETH", -4.0, 2_000.0))
    left = reduce_positions(portfolio, [0.25, 1.0])
    assert [leg.quantity for leg in left.positions] == [0.75, 0.0]


def test_isolated_position_stands_alone(linear_tiers: RuleSet) -> None:
    portfolio = account(100_000.0, ("BTC", 1.0, 60_030.0), ("ETH", 10.0, 2_001.0))
    found = liquidation_of(portfolio, linear_tiers, {"BTC-PERP": 6_003.0})
    btc, eth = found.legs
    # 6,003 + p - 60,030 = 0.02 p.
    alone = (60_030.0 - 6_003.0) / 0.98
    assert btc.isolated
    assert btc.levels.liquidation.down == pytest.approx(alone, rel=1e-12)
    assert btc.levels.bankruptcy.down == pytest.approx(60_030.0 - 6_003.0)
    assert eth.levels.liquidation.down is None
    assert len(found.step.shares) == 1
    with pytest.raises(CaseError, match="isolated names SOL-PERP"):
        liquidation_of(portfolio, linear_tiers, {"SOL-PERP": 1.0})


def test_lines_of_an_isolated_instrument_have_its_margin_once(linear_tiers: RuleSet) -> None:
    whole = account(100_000.0, ("BTC", 1.0, 60_030.0))
    split = account(100_000.0, ("BTC", 0.25, 60_030.0), ("BTC", 0.75, 60_030.0))
    (one,) = liquidation_of(whole, linear_tiers, {"BTC-PERP": 6_003.0}).legs
    for line in liquidation_of(split, linear_tiers, {"BTC-PERP": 6_003.0}).legs:
        assert line.levels.liquidation.down == pytest.approx(one.levels.liquidation.down)
        assert line.levels.bankruptcy.down == pytest.approx(one.levels.bankruptcy.down)


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf])
def test_an_isolated_margin_below_nothing_is_refused(linear_tiers: RuleSet, margin: float) -> None:
    with pytest.raises(CaseError, match="isolated gives BTC-PERP a margin of"):
        liquidation_of(account(1.0, ("BTC", 1.0, 6e4)), linear_tiers, {"BTC-PERP": margin})


def test_no_price_liquidates_an_account_without_positions(linear_tiers: RuleSet) -> None:
    found = liquidation_crossing(account(100.0), "BTC", linear_tiers)
    assert (found.down, found.up, found.passed) == (None, None, False)
    assert liquidation_crossing(account(-1.0), "BTC", linear_tiers).passed
    with pytest.raises(CaseError, match="'SOL' is not in the portfolio"):
        liquidation_crossing(account(1.0), "SOL", linear_tiers)


@given(
    st.floats(1e-3, 1.0),
    st.sampled_from([1.0, 3.0, 0.2]),
    st.lists(st.floats(0.0, 1.0), max_size=3),
)
def test_first_nonnegative_finds_what_bisection_does(
    zero: float, power: float, kinks: list[float]
) -> None:
    """Rising functions with kinks: the same two neighbouring numbers, to the last bit."""

    def values(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        steep = sum((np.where(x > kink, 5.0, 0.0) for kink in kinks), np.ones(len(x)))
        return np.where(x >= zero, 1e-30 + np.abs(x - zero) ** power, -(zero - x)) * steep

    path = np.linspace(0.0, 1.0, 65)
    assert first_nonnegative(values, path) == (np.nextafter(zero, 0.0), zero)
    searched = first_true(lambda x: values(x) >= 0.0, path)
    assert searched is not None
    assert searched[1] == zero


def test_first_nonnegative_takes_few_rounds_on_a_line_and_knows_nan() -> None:
    calls = []

    def line(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        calls.append(len(x))
        return 3.0 * x - 1.0

    path = np.linspace(0.0, 1.0, 65)
    assert first_nonnegative(line, path) == pytest.approx((1 / 3, 1 / 3), rel=1e-15)
    assert len(calls) <= 4
    assert first_nonnegative(lambda x: x * np.nan, path) is None
    assert first_nonnegative(lambda x: x + 1.0, path) == (0.0, 0.0)
    bounds = first_nonnegative(lambda x: np.where(x < 0.3, -np.inf, np.inf), path)
    assert bounds is not None
    assert bounds[1] == 0.3


def test_first_true_finds_both_sides_to_the_last_bit() -> None:
    bounds = first_true(lambda x: x >= math.pi, np.linspace(0.0, 10.0, 5))
    assert bounds is not None
    assert bounds[0] < math.pi <= bounds[1]
    assert bounds[1] == np.nextafter(bounds[0], np.inf)
    assert first_true(lambda x: x > 99.0, np.linspace(0.0, 10.0, 5)) is None
    assert first_true(lambda x: x < 99.0, np.linspace(0.0, 10.0, 5)) == (0.0, 0.0)


CASE: dict[str, Any] = {
    "id": "short",
    "portfolio": {
        "cash": 500.0,
        "stable_price": 1.0,
        "underlyings": {"BTC": {"spot": 100_000.0, "perp_price": 100_000.0}},
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": -0.1, "entry_price": 100_000.0}
        ],
        "collateral": [],
    },
    "ruleset": "linear-tiers",
}


def answer(**changes: object) -> dict[str, Any]:
    return run_liquidation_case(json.dumps(CASE | changes).encode())


def test_case_gives_prices_and_a_step_of_nothing() -> None:
    got = answer()
    # 500 - 0.1 (p - 100,000) = 0.02 * 0.1 p.
    assert got["legs"][0]["liquidation"]["up"] == pytest.approx(10_500.0 / 0.102)
    assert got["underlyings"]["BTC"]["bankruptcy"]["up"] == pytest.approx(105_000.0)
    assert got["step"]["shares"] == [{"instrument": "BTC-PERP", "share": 0.0, "limit_price": None}]
    assert (got["rules"], got["auction"]) == ("default", [])


def test_case_names_how_far_a_closing_order_may_go() -> None:
    """dYdX: equity 150 of a margin of 200; 1.5 times the margin at an equity of 0."""
    low = copy.deepcopy(CASE["portfolio"]) | {"cash": 150.0}
    got = answer(portfolio=low, liquidation={"fund": {"fill_spread": 1.5}})
    step = got["step"]["shares"][0]
    assert step["limit_price"] == pytest.approx(100_000.0 + 0.25 * 1.5 * 200.0 / 0.1)


def test_a_table_of_the_case_replaces_that_of_the_rule_set() -> None:
    table = {
        "auction": {
            "start": 0.95,
            "knee": 0.7,
            "fast_seconds": 900,
            "slow_seconds": 43_200,
            "insolvent_seconds": 3_600,
        }
    }
    low = copy.deepcopy(CASE["portfolio"]) | {"cash": 100.0}
    got = answer(portfolio=low, liquidation=table)
    assert got["rules"] == "rule set"
    assert got["auction"][0]["price"] == pytest.approx(95.0)
    assert got["auction"][-1]["price"] == pytest.approx(-100.0)
    assert 0.0 < got["step"]["shares"][0]["share"] < 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"isolated": [1]}, "isolated is"),
        ({"isolated": {"X": 1.0}}, "isolated names X"),
        ({"liquidation": {"partial": {"method": "sell"}}}, "Invalid enum value 'sell'"),
        ({"portfolio": {}}, "missing required field"),
    ],
)
def test_bad_cases_are_answered_with_an_error(changes: dict[str, object], message: str) -> None:
    assert message in answer(**changes)["error"]


def test_open_interest_is_a_notional_and_moves_with_the_price(linear_tiers: RuleSet) -> None:
    btc = Underlying(spot=60_000.0, perp_price=60_030.0, open_interest=1e9)
    portfolio = msgspec.structs.replace(account(0.0), underlyings={"BTC": btc})
    after = shock_portfolio(portfolio, "BTC", 1.25, linear_tiers.collateral).underlyings["BTC"]
    assert (after.spot, after.perp_price, after.open_interest) == (75_000.0, 75_037.5, 1.25e9)


def test_wrapped_collateral_moves_with_its_coin() -> None:
    rules = load_ruleset("derive-pmrm2").collateral
    portfolio = msgspec.structs.replace(
        account(0.0),
        collateral=(
            CollateralBalance(asset="CBBTC", amount=1.0, price=60_000.0),
            CollateralBalance(asset="USDC", amount=1.0, price=1.0),
        ),
    )
    prices = [balance.price for balance in shock_portfolio(portfolio, "BTC", 0.5, rules).collateral]
    assert prices == [30_000.0, 1.0]
