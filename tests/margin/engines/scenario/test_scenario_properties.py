"""Laws that portfolio margin keeps whatever the portfolio."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given, settings, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins, engine_of
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content

SECONDS = (900.0, 86_400.0, 40 * 86_400.0)
MARKET = {
    "U": Underlying(
        spot=100.0,
        perp_price=100.2,
        perp_confidence=0.5,
        expiries=tuple(Expiry(left, 100.0 + i, 0.03 * i) for i, left in enumerate(SECONDS)),
    )
}

quantities = st.floats(-50.0, 50.0).filter(lambda q: abs(q) > 1e-3)
perps = st.builds(
    Holding,
    kind=st.just("perp"),
    underlying=st.just("U"),
    quantity=quantities,
    unrealised_pnl=st.floats(-100.0, 100.0),
)
options = st.builds(
    Holding,
    kind=st.just("option"),
    underlying=st.just("U"),
    quantity=quantities,
    seconds_to_expiry=st.sampled_from(SECONDS),
    strike=st.sampled_from([60.0, 95.0, 100.0, 130.0]),
    type=st.sampled_from(["call", "put"]),
    vol=st.just(0.7),
)
positions = st.lists(perps | options, max_size=8)
balances = st.lists(
    st.builds(
        CollateralBalance,
        asset=st.just("U"),
        amount=st.floats(-5.0, 50.0),
        price=st.just(100.0),
        underlying=st.just("U"),
        maintenance_haircut=st.just(0.1),
        initial_extra_haircut=st.just(0.05),
        risk_cancelling=st.booleans(),
    ),
    max_size=2,
)

PMRM2 = load_ruleset("derive-pmrm2")
PRESETS = st.sampled_from(
    [PMRM2, load_ruleset("deribit-portfolio-like"), load_ruleset("paradex-portfolio")]
)


def bare() -> RuleSet:
    """PMRM2's near moves without what is not sub-additive in the profit and loss alone: tails that
    count in part, static discount, skew rows' |...|, basis and naked shorts."""
    content = PMRM2.content()
    rows = [row for row in content["scenario"]["grid"] if row["vol"] in ("up", "none", "down")]
    content["scenario"] |= {
        "grid": [row for row in rows if row["dampening"] == 1.0],
        "static_discount_long": 1.0,
        "long_rate_mult": 0.0,
        "long_rate_add": 0.0,
        "static_discount_short": 1.0,
        "short_rate_mult": 0.0,
        "short_rate_add": 0.0,
        "basis_add_factor": 0.0,
        "basis_mult_factor": 0.0,
        "perp_mm_contingency": 0.0,
        "perp_im_extra_contingency": 0.0,
        "short_option_mm_contingency": 0.0,
        "short_option_im_extra_contingency": 0.0,
        "oracle_conf_factor": 0.0,
    }
    return ruleset_from_content(content)


BARE = bare()


def account(held: list[Holding], collateral: Any = (), cash: float = 0.0) -> Portfolio:
    return Portfolio(cash, 1.0, MARKET, tuple(held), tuple(collateral))


def margins_of(ruleset: RuleSet, *portfolios: Portfolio) -> Margins:
    return compute_margins(flatten(portfolios, ruleset.collateral), ruleset)


def scaled(held: list[Holding], factor: float) -> list[Holding]:
    return [
        Holding(
            **{
                **{name: getattr(one, name) for name in one.__struct_fields__},
                "quantity": one.quantity * factor,
                "unrealised_pnl": None
                if one.unrealised_pnl is None
                else one.unrealised_pnl * factor,
            }
        )
        for one in held
    ]


@given(positions, balances, PRESETS, st.randoms(use_true_random=False))
def test_permuting_positions_changes_no_bit(
    held: list[Holding], collateral: list[CollateralBalance], ruleset: RuleSet, order: random.Random
) -> None:
    shuffled = held.copy()
    order.shuffle(shuffled)
    margins = margins_of(ruleset, account(held, collateral), account(shuffled, collateral))
    assert margins.initial_net[0] == margins.initial_net[1]
    assert margins.maintenance_net[0] == margins.maintenance_net[1]
    assert margins.scenario_pnl is not None
    np.testing.assert_array_equal(margins.scenario_pnl[0], margins.scenario_pnl[1])


@given(positions, PRESETS, st.sampled_from([0.5, 0.25, 0.75]))
def test_splitting_positions_changes_nothing(
    held: list[Holding], ruleset: RuleSet, share: float
) -> None:
    split = scaled(held, share) + scaled(held, 1.0 - share)
    margins = margins_of(ruleset, account(held), account(split))
    scale = 1e-12 * (1.0 + sum(abs(one.quantity) for one in held) * 400.0)
    for net in (margins.initial_net, margins.maintenance_net):
        np.testing.assert_allclose(net[1], net[0], rtol=1e-12, atol=scale)


@given(positions, positions)
@settings(max_examples=100)
def test_scenario_losses_are_sub_additive(one: list[Holding], other: list[Holding]) -> None:
    margins = margins_of(BARE, account(one), account(other), account(one + other))
    for net in (margins.initial_net, margins.maintenance_net):
        asked = margins.mark_to_market - net
        slack = 1e-9 * (1.0 + np.abs(asked).sum())
        assert asked[2] <= asked[0] + asked[1] + slack


@given(positions, balances, PRESETS)
def test_parts_and_components_add_up(
    held: list[Holding], collateral: list[CollateralBalance], ruleset: RuleSet
) -> None:
    flat = flatten([account(held, collateral, 5.0)], ruleset.collateral)
    margins = compute_margins(flat, ruleset)
    parts = engine_of(ruleset).parts(flat, 0, ruleset)
    scale = 1e-11 * (1.0 + sum(abs(one.quantity) for one in held) * 400.0)
    for net, total in (
        (margins.initial_net[0], sum(part.initial for part in parts)),
        (margins.maintenance_net[0], sum(part.maintenance for part in parts)),
    ):
        np.testing.assert_allclose(total, net, rtol=1e-11, atol=scale)


@given(positions, PRESETS)
def test_legs_carry_the_whole_requirement(held: list[Holding], ruleset: RuleSet) -> None:
    margins = margins_of(ruleset, account(held))
    scale = 1e-11 * (1.0 + sum(abs(one.quantity) for one in held) * 400.0)
    for net, leg in (
        (margins.initial_net, margins.leg_initial),
        (margins.maintenance_net, margins.leg_maintenance),
    ):
        asked = margins.mark_to_market - net
        np.testing.assert_allclose(leg.sum(), asked[0], rtol=1e-10, atol=scale)


@given(positions, PRESETS, st.floats(0.01, 100.0))
def test_requirement_is_homogeneous(held: list[Holding], ruleset: RuleSet, factor: float) -> None:
    margins = margins_of(ruleset, account(held), account(scaled(held, factor)))
    scale = 1e-11 * factor * (1.0 + sum(abs(one.quantity) for one in held) * 400.0)
    for net in (margins.initial_net, margins.maintenance_net):
        np.testing.assert_allclose(net[1], factor * net[0], rtol=1e-10, atol=scale)


@given(positions, PRESETS)
def test_initial_margin_asks_at_least_that_of_maintenance(
    held: list[Holding], ruleset: RuleSet
) -> None:
    margins = margins_of(ruleset, account(held))
    assert margins.initial_net[0] <= margins.maintenance_net[0] + 1e-9
    assert margins.maintenance_net[0] <= margins.mark_to_market[0] + 1e-9


@given(st.lists(positions, min_size=1, max_size=5), PRESETS)
def test_a_portfolio_is_margined_alike_alone_and_in_a_book(
    book: list[list[Holding]], ruleset: RuleSet
) -> None:
    together = margins_of(ruleset, *(account(held) for held in book))
    for i, held in enumerate(book):
        alone = margins_of(ruleset, account(held))
        assert alone.initial_net[0] == together.initial_net[i]
        assert alone.maintenance_net[0] == together.maintenance_net[i]
