"""The scenario engine by hand: components, shares of the legs, names, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from margin.book.case_batch import flatten
from margin.book.case_portfolio import (
    CollateralBalance,
    Expiry,
    Holding,
    Portfolio,
    Underlying,
    portfolio_from,
)
from margin.book.portfolio_batch import Portfolios
from margin.cases.what_if_cases import explain_case
from margin.engines.margins import Margins, RankedScenario
from margin.engines.registry import compute_margins, engine_of
from margin.engines.scenario.grid import scenario_name
from margin.engines.scenario.rules import GridRow, ScenarioRules
from margin.pricing.black76 import black76_price
from margin.rules.ruleset import CollateralRules, RuleSet, load_ruleset, ruleset_from_content
from market.core.errors import DataError, InstrumentError, RuleSetError

DAY = 86_400.0
BTC = Underlying(
    spot=70_000.0,
    perp_price=70_000.0,
    expiries=(Expiry(10 * DAY, 70_200.0, 0.0), Expiry(60 * DAY, 70_900.0, 0.04)),
)


@pytest.fixture(scope="module")
def pmrm2() -> RuleSet:
    return load_ruleset("derive-pmrm2")


def perp(quantity: float, underlying: str = "BTC", **more: Any) -> Holding:
    return Holding(kind="perp", underlying=underlying, quantity=quantity, **more)


def option(
    quantity: float, strike: float, side: Any = "call", days: float = 10, **more: Any
) -> Holding:
    return Holding(
        kind="option",
        underlying="BTC",
        quantity=quantity,
        strike=strike,
        type=side,
        seconds_to_expiry=days * DAY,
        **{"vol": 0.6, **more},
    )


def account(*positions: Holding, cash: float = 0.0, **more: Any) -> Portfolio:
    given = {"stable_price": 1.0, "underlyings": {"BTC": BTC}, "collateral": (), **more}
    return Portfolio(cash=cash, positions=positions, **given)


def margins_of(ruleset: RuleSet, *portfolios: Portfolio) -> tuple[Portfolios, Margins]:
    flat = flatten(portfolios, ruleset.collateral)
    return flat, compute_margins(flat, ruleset)


def changed(ruleset: RuleSet, **figures: Any) -> RuleSet:
    content = ruleset.content()
    content["scenario"] |= figures
    return ruleset_from_content(content)


def test_perp_alone_loses_in_the_farthest_move(pmrm2: RuleSet) -> None:
    _, margins = margins_of(pmrm2, account(perp(-2.0), cash=50_000.0))
    # Up 18% costs 25 200; the contingency is 1.5% of 140 000, and 0.5% more.
    assert margins.maintenance_net[0] == pytest.approx(50_000 - 0.8 * 25_200 - 2_100, rel=1e-12)
    assert margins.initial_net[0] == pytest.approx(50_000 - 25_200 - 2_800, rel=1e-12)
    assert margins.mark_to_market[0] == 50_000.0


def test_nothing_needs_nothing(pmrm2: RuleSet) -> None:
    _, margins = margins_of(pmrm2, account(), account(cash=-5.0))
    for level in (margins.initial, margins.maintenance):
        for name, column in level.items():
            np.testing.assert_array_equal(column, [0.0, -5.0] if name == "cash" else 0.0)
    assert margins.scenario_pnl is not None
    np.testing.assert_array_equal(margins.scenario_pnl, 0.0)


def test_covered_call_is_charged_for_neither_short_twice(pmrm2: RuleSet) -> None:
    """A long put of the same strike does not cover a call's sign; a long call does."""
    _, margins = margins_of(
        pmrm2,
        account(option(-2.0, 70_000.0), option(1.5, 70_000.0, "put")),
        account(option(-2.0, 70_000.0), option(-1.0, 70_000.0, "put")),
        account(option(-2.0, 70_000.0), option(1.0, 80_000.0)),
    )
    charged = -margins.maintenance["naked_short_contingency"]
    np.testing.assert_allclose(charged, 0.003 * 70_000.0 * np.array([0.5, 3.0, 2.0]))


def test_settled_share_of_the_forward_stays() -> None:
    ruleset = changed(
        load_ruleset("derive-pmrm2"),
        grid=[{"spot": 0.9, "vol": "none"}],
        static_discount_long=1.0,
        long_rate_add=0.0,
    )
    expiry = Expiry(450.0, 80_000.0, 0.0)
    portfolio = Portfolio(
        0.0,
        1.0,
        {"BTC": Underlying(spot=80_000.0, expiries=(expiry,))},
        (option(1.0, 40_000.0, days=450.0 / DAY),),
        (),
    )
    _, margins = margins_of(ruleset, portfolio)
    assert margins.scenario_pnl is not None
    # Three quarters have settled: the forward falls by 10% of a quarter.
    assert margins.scenario_pnl[0, 0] == pytest.approx(-2_000.0, rel=1e-9)


def test_collateral_counts_after_haircuts_and_moves_where_it_cancels(pmrm2: RuleSet) -> None:
    balance = CollateralBalance(
        asset="BTC",
        amount=1.0,
        price=70_000.0,
        underlying="BTC",
        maintenance_haircut=0.02,
        initial_extra_haircut=0.01,
        risk_cancelling=True,
    )
    still = replace_balance(balance, risk_cancelling=False)
    _, margins = margins_of(
        pmrm2,
        account(perp(-1.0), collateral=(balance,)),
        account(perp(-1.0), collateral=(still,)),
    )
    assert margins.initial["worst_scenario"][0] == pytest.approx(0.0, abs=1e-9)
    assert margins.initial["worst_scenario"][1] == pytest.approx(-12_600.0)
    np.testing.assert_allclose(margins.maintenance["collateral_haircut"], -1_400.0)
    np.testing.assert_allclose(margins.initial["collateral_initial_extra"], -700.0)
    np.testing.assert_allclose(margins.mark_to_market, 70_000.0)


def replace_balance(balance: CollateralBalance, **more: Any) -> CollateralBalance:
    fields = {name: getattr(balance, name) for name in balance.__struct_fields__}
    return CollateralBalance(**{**fields, **more})


def test_haircuts_and_coin_of_the_rule_set_apply_where_a_balance_has_none(pmrm2: RuleSet) -> None:
    balances = (CollateralBalance(asset="CBBTC", amount=1.0, price=70_000.0),)
    flat, margins = margins_of(
        pmrm2, account(perp(-1.0), collateral=balances), account(collateral=balances)
    )
    np.testing.assert_array_equal(flat.collateral.risk_cancelling, [True, False])
    np.testing.assert_allclose(flat.collateral.initial_haircut, 0.055)
    np.testing.assert_allclose(margins.maintenance["collateral_haircut"], -2_800.0)
    np.testing.assert_allclose(margins.initial["worst_scenario"], 0.0, atol=1e-9)


def test_extra_haircut_beyond_the_whole_is_refused() -> None:
    with pytest.raises(ValueError, match=r"initial_extra_haircuts\.X"):
        CollateralRules(haircuts={"X": 0.8}, initial_extra_haircuts={"X": 0.3})


def test_stable_coin_below_its_peg_raises_the_initial_factor(pmrm2: RuleSet) -> None:
    _, margins = margins_of(pmrm2, account(perp(1.0), stable_price=0.9))
    # 0.08 below the threshold, times 2, of the loss of 12 600.
    assert margins.initial["depeg"][0] == pytest.approx(-0.16 * 12_600.0)
    assert "depeg" not in margins.maintenance


def test_distrusted_prices_ask_for_initial_margin_alone(pmrm2: RuleSet) -> None:
    shaky = Underlying(
        spot=70_000.0,
        perp_price=70_000.0,
        perp_confidence=0.3,
        expiries=(Expiry(10 * DAY, 70_200.0, 0.0, vol_confidence=0.54),),
    )
    _, margins = margins_of(
        pmrm2,
        account(option(-1.0, 70_000.0), underlyings={"BTC": shaky}),
        account(option(-1.0, 70_000.0), perp(1.0), underlyings={"BTC": shaky}),
        account(option(-1.0, 70_000.0), perp(1.0), perp(-1.0), underlyings={"BTC": shaky}),
    )
    expected = -70_000.0 * np.array([0.46, 0.7 + 0.7, 0.46])
    np.testing.assert_allclose(margins.initial["oracle_contingency"], expected)


def test_legs_share_all_that_no_collateral_asks(pmrm2: RuleSet) -> None:
    """With the worst in the grid, in a skew row, in the basis: the shares add up to it."""
    book = (
        account(perp(1.0), option(-2.0, 75_000.0), option(3.0, 60_000.0, "put", 60)),
        account(option(5.0, 60_000.0), option(-5.0, 60_500.0), option(4.0, 80_000.0, "put", 60)),
        account(option(9.0, 70_000.0), option(-9.0, 70_000.0, days=60)),
        account(perp(0.5), option(-1.0, 71_000.0), cash=9.0, stable_price=0.9),
    )
    skewed = changed(pmrm2, grid=[{"spot": 1.0, "vol": "linear"}, {"spot": 1.0, "vol": "abs"}])
    based = changed(pmrm2, grid=[{"spot": 1.0, "vol": "none", "dampening": 0.0}])
    for ruleset in (pmrm2, skewed, based, changed(pmrm2, delta_net_rate=0.9)):
        flat, margins = margins_of(ruleset, *book)
        owner = np.repeat(np.arange(len(book)), np.diff(flat.start))
        for net, leg in (
            (margins.initial_net, margins.leg_initial),
            (margins.maintenance_net, margins.leg_maintenance),
        ):
            asked = margins.mark_to_market - net
            assert (asked > 0.0).all()
            np.testing.assert_allclose(np.bincount(owner, leg), asked, rtol=1e-11)


def test_parts_add_up_and_name_the_worst(pmrm2: RuleSet) -> None:
    portfolio = account(
        perp(-1.0, unrealised_pnl=3.0),
        option(-2.0, 75_000.0),
        cash=7.0,
        stable_price=0.95,
        collateral=(CollateralBalance(asset="USDE", amount=5.0, price=1.0, confidence=0.1),),
    )
    flat, margins = margins_of(pmrm2, account(perp(2.0)), portfolio)
    parts = engine_of(pmrm2).parts(flat, 1, pmrm2)
    assert math.fsum(part.initial for part in parts) == pytest.approx(margins.initial_net[1])
    assert math.fsum(part.maintenance for part in parts) == pytest.approx(
        margins.maintenance_net[1]
    )
    named = {part.name: part for part in parts}
    assert named["scenario spot +18%, vol up"].subject == "BTC"
    assert named["oracle confidence"].subject == "USDE"
    assert {"naked short options", "perp contingency", "depeg of the stable coin"} <= set(named)


def test_basis_contingency_is_named(pmrm2: RuleSet) -> None:
    ruleset = changed(pmrm2, grid=[{"spot": 1.0, "vol": "none", "dampening": 0.0}])
    flat, margins = margins_of(ruleset, account(option(1.0, 70_000.0)))
    assert margins.initial["basis_contingency"][0] < 0.0
    assert margins.initial["worst_scenario"][0] == 0.0
    names = [part.name for part in engine_of(ruleset).parts(flat, 0, ruleset)]
    assert "basis contingency" in names


def worst_scenarios(
    portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
) -> tuple[RankedScenario, ...]:
    ranked = engine_of(ruleset).worst_scenarios(portfolios, account, ruleset, count)
    assert ranked is not None
    return ranked


def test_worst_scenarios_are_ranked(pmrm2: RuleSet) -> None:
    flat, margins = margins_of(pmrm2, account(perp(1.0)), account(option(-1.0, 70_000.0)))
    assert margins.scenario_pnl is not None
    ranked = worst_scenarios(flat, 1, pmrm2, 3)
    expected = np.sort([*margins.scenario_pnl[1], 0.0])[:3]
    np.testing.assert_array_equal([one.pnl for one in ranked], expected)
    assert ranked[0].name == "scenario spot +18%, vol up"
    assert ranked[0].underlying == "BTC"
    assert len(worst_scenarios(flat, 1, pmrm2, 99)) == 32


def test_an_explained_case_names_its_worst_scenarios() -> None:
    portfolio = msgspec.to_builtins(account(option(-1.0, 70_000.0)))
    line = msgspec.json.encode({"id": 1, "portfolio": portfolio, "ruleset": "derive-pmrm2"})
    worst = explain_case(line)["worst_scenarios"]
    assert [one["name"] for one in worst[:1]] == ["scenario spot +18%, vol up"]
    assert [one["pnl"] for one in worst] == sorted(one["pnl"] for one in worst)
    assert len(worst) == 5


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (GridRow(0.82, "up"), "scenario spot -18%, vol up"),
        (GridRow(0.8200000000000001, "up"), "scenario spot -18%, vol up"),
        (GridRow(1.045, "none"), "scenario spot +4.5%, vol unchanged"),
        (GridRow(1.0, "abs"), "scenario spot unchanged, absolute skew"),
        (GridRow(2.0, "up", 0.036), "scenario spot +100%, vol up, 3.6% of the result"),
    ],
)
def test_names_of_scenarios(row: GridRow, name: str) -> None:
    assert scenario_name(row) == name


def test_two_underlyings_are_refused_or_summed(pmrm2: RuleSet) -> None:
    both = {"BTC": BTC, "ETH": Underlying(spot=2_000.0, perp_price=2_000.0)}
    book = account(perp(1.0), perp(-10.0, "ETH"), underlyings=both, cash=1.0)
    with pytest.raises(InstrumentError, match=r"BTC, ETH.*one underlying an account"):
        margins_of(pmrm2, book)
    summed = changed(pmrm2, underlyings="sum")
    flat, margins = margins_of(summed, book, account(perp(1.0)))
    alone = [
        margins_of(summed, account(one, underlyings=both))[1].initial_net[0]
        for one in (perp(1.0), perp(-10.0, "ETH"))
    ]
    assert margins.initial_net[0] == pytest.approx(1.0 + sum(alone))
    assert [
        part.subject for part in engine_of(summed).parts(flat, 0, summed) if "scenario" in part.name
    ] == [
        "BTC",
        "ETH",
    ]
    assert margins.scenario_pnl is not None
    assert margins.scenario_pnl.shape == (2, 31)


def test_collateral_of_another_underlying_counts_for_one(pmrm2: RuleSet) -> None:
    both = {"BTC": BTC, "ETH": Underlying(spot=2_000.0)}
    moving = CollateralBalance(
        asset="ETH",
        amount=1.0,
        price=2_000.0,
        underlying="ETH",
        maintenance_haircut=0.1,
        risk_cancelling=True,
    )
    with pytest.raises(InstrumentError, match=r"BTC, ETH"):
        margins_of(pmrm2, account(perp(1.0), underlyings=both, collateral=(moving,)))
    summed = changed(pmrm2, underlyings="sum")
    flat, margins = margins_of(
        summed, account(perp(1.0), underlyings=both, collateral=(moving,)), account(perp(2.0))
    )
    # Each on its own: the perp loses 12 600 and the collateral 360.
    assert margins.initial["worst_scenario"][0] == pytest.approx(-12_960.0)
    assert margins.initial["worst_scenario"][1] == pytest.approx(-25_200.0)
    assert len(worst_scenarios(flat, 0, summed, 99)) == 64
    homeless = replace_balance(moving, underlying=None)
    two = account(
        perp(1.0),
        perp(1.0, "ETH"),
        collateral=(homeless,),
        underlyings={"BTC": BTC, "ETH": Underlying(spot=2_000.0, perp_price=2_000.0)},
    )
    with pytest.raises(InstrumentError, match=r"'ETH' is risk_cancelling"):
        margins_of(summed, two)


def test_least_for_deltas_is_the_published_example() -> None:
    """Paradex documentation, Portfolio Margin, "Example calculation" of the minimum delta
    requirement: long 1 perp, short 5 calls of delta 0.3, spot 70 000, 0.2% and 0.1%: $140."""
    ruleset = changed(
        load_ruleset("paradex-portfolio"),
        delta_net_rate=0.002,
        delta_hedged_rate=0.001,
        grid=[{"spot": 1.0, "vol": "none"}],
    )
    tau, vol = 10 / 365, 0.6
    spread = vol * math.sqrt(tau)
    d1 = -0.5244005127080407  # N(d1) = 0.3
    forward = 70_000.0 * math.exp(spread * (d1 - 0.5 * spread))
    market = Underlying(
        spot=70_000.0, perp_price=70_000.0, expiries=(Expiry(10 * DAY, forward, 0.0),)
    )
    flat, margins = margins_of(
        ruleset, account(perp(1.0), option(-5.0, 70_000.0), underlyings={"BTC": market})
    )
    assert margins.initial["delta_floor"][0] == pytest.approx(-140.0, rel=1e-9)
    assert margins.maintenance["delta_floor"][0] == pytest.approx(-70.0, rel=1e-9)
    assert margins.leg_initial.sum() == pytest.approx(140.0, rel=1e-9)
    parts = engine_of(ruleset).parts(flat, 0, ruleset)
    assert [part.initial for part in parts if part.name == "least for deltas"] == [
        pytest.approx(-140.0)
    ]


def test_short_call_under_deribit_like_rules_by_hand() -> None:
    """16% up with the vol up by (30 / 10)^0.3 * 50%; far up, a fraction counts."""
    ruleset = load_ruleset("deribit-portfolio-like")
    _, margins = margins_of(ruleset, account(option(-1.0, 70_000.0)))
    up = 0.6 * (1.0 + 0.5 * 3.0**0.3)
    tau = 10 / 365
    today = float(black76_price(70_200.0, 70_000.0, tau, 0.6, True))
    near = float(black76_price(70_200.0 * 1.16, 70_000.0, tau, up, True)) - today
    far = (70_200.0 * 6.0 - 70_000.0 - today) * 0.16 / 5.0
    assert margins.scenario_pnl is not None
    assert margins.scenario_pnl[0, 0] == pytest.approx(-near, rel=1e-12)
    assert margins.scenario_pnl[0, -1] == pytest.approx(-far, rel=1e-12)
    asked = margins.mark_to_market - margins.initial_net
    assert asked[0] == pytest.approx(max(near, far) + 700.0, rel=1e-12)
    asked = margins.mark_to_market - margins.maintenance_net
    assert asked[0] == pytest.approx(0.8 * (max(near, far) + 700.0), rel=1e-12)


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        (("underlyings", "BTC", "spot"), 0.0, "spot 0"),
        (("underlyings", "BTC", "perp_price"), None, "perp_price"),
        (("underlyings", "BTC", "expiries", 0, "forward"), 0.0, "forward 0"),
        (("underlyings", "BTC", "expiries", 0, "seconds_to_expiry"), -1.0, "expired"),
        (("positions", 0, "seconds_to_expiry"), -5.0, "expired"),
        (("positions", 0, "seconds_to_expiry"), 9.0, "no such expiry"),
        (("positions", 0, "underlying"), "DOGE", "DOGE"),
        (("positions", 0, "strike"), 0.0, "strike 0"),
        (("positions", 0, "vol"), -0.1, "vol -0.1"),
    ],
)
def test_what_cannot_be_valued_is_named(path: tuple[Any, ...], value: object, error: str) -> None:
    content: dict[str, Any] = {
        "cash": 0.0,
        "stable_price": 1.0,
        "underlyings": {
            "BTC": {
                "spot": 70_000.0,
                "perp_price": 70_000.0,
                "expiries": [{"seconds_to_expiry": 10, "forward": 70_000.0, "rate": 0.0}],
            }
        },
        "positions": [
            {
                "kind": "option",
                "underlying": "BTC",
                "quantity": 1.0,
                "strike": 70_000.0,
                "type": "call",
                "seconds_to_expiry": 10,
                "vol": 0.5,
                "instrument": "BTC-27MAR26-70000-C",
            },
            {"kind": "perp", "underlying": "BTC", "quantity": 1.0},
        ],
        "collateral": [],
    }
    table: Any = content
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    with pytest.raises(InstrumentError, match=error) as caught:
        portfolio_from(content)
    assert caught.value.instrument.startswith("BTC")


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "error"),
    [
        ("underlyings", "spot", 0, math.nan, r"spot .* nan"),
        ("underlyings", "perp_price", 0, 0.0, r"perp_price .* 0"),
        ("expiries", "forward", 0, math.nan, r"forward .* nan"),
        ("expiries", "seconds", 0, -1.0, r"seconds_to_expiry .* -1"),
        (None, "vol", 1, math.nan, r"vol .* nan"),
        (None, "strike", 1, 0.0, r"strike .* 0"),
        (None, "quantity", 0, math.inf, r"quantity .* inf"),
        (None, "expiry", 1, -1, r"no expiry"),
    ],
)
def test_arrays_that_cannot_be_valued_are_named(
    pmrm2: RuleSet, table: str | None, column: str, row: int, value: float, error: str
) -> None:
    """Whoever fills the arrays without `check_portfolio` gets the same kind of error."""
    flat = flatten([account(perp(1.0), option(1.0, 70_000.0))], pmrm2.collateral)
    owner = flat if table is None else getattr(flat, table)
    values = getattr(owner, column).copy()
    values[row] = value
    changed: dict[str, Any] = {column: values}
    if table is not None:
        changed = {table: replace(owner, **changed)}
    broken = replace(flat, **changed)
    with pytest.raises(InstrumentError, match=error) as caught:
        compute_margins(broken, pmrm2)
    assert caught.value.instrument.startswith("BTC")


def test_legs_out_of_order_are_refused(pmrm2: RuleSet) -> None:
    """The kernel groups what stands together; a split expiry would be discounted in two parts."""
    book = account(option(1.0, 60_000.0), option(1.0, 70_000.0), option(1.0, 70_000.0, days=60))
    flat = flatten([book], pmrm2.collateral)
    shuffled = replace(flat, expiry=flat.expiry[[0, 2, 1]])
    with pytest.raises(DataError, match="canonical order"):
        compute_margins(shuffled, pmrm2)


def test_one_option_with_two_vols_is_refused(pmrm2: RuleSet) -> None:
    book = account(option(1.0, 70_000.0), option(1.0, 70_000.0, vol=0.7))
    with pytest.raises(InstrumentError, match=r"vols 0.6, 0.7"):
        margins_of(pmrm2, book)


def test_overflow_is_not_a_margin(pmrm2: RuleSet) -> None:
    with np.errstate(all="ignore"):
        _, margins = margins_of(pmrm2, account(perp(1e308), option(-1e308, 70_000.0)))
    assert not math.isfinite(margins.initial_net[0])


def test_rule_set_of_another_engine_has_no_grid(linear_tiers: RuleSet) -> None:
    with pytest.raises(RuleSetError, match="ScenarioRules"):
        linear_tiers.engine_rules(ScenarioRules)
