"""What every registered engine promises, see `margin.engines.base.Engine`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Portfolio, portfolio_from
from margin.book.portfolio_batch import Portfolios
from margin.engines.base import Engine
from margin.engines.margins import Margins
from margin.engines.registry import ENGINES, compute_margins, engine_of, explain_margins
from margin.engines.tier.rules import Bracket
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from market.bars.daily_closes import DailyCloses
from market.core.clock import DAY
from market.core.errors import CaseError, InstrumentError, RuleSetError

WEEK = 7 * 86_400.0
PRESETS = {name: load_ruleset(name) for name in list_rulesets()}
RULESETS = {rules.table: rules for rules in reversed(PRESETS.values())}
"""One preset of each engine."""

every_engine = pytest.mark.parametrize("ruleset", RULESETS.values(), ids=RULESETS)

LEVELS = ("initial", "maintenance")


def closes() -> DailyCloses:
    rng = np.random.default_rng(3)
    returns = 0.03 * rng.standard_t(4, size=(500, 1))
    return DailyCloses(("ETH",), 20_000 * DAY, 2_000.0 * np.exp(returns.cumsum(axis=0)), returns**2)


CLOSES = closes()

ONE_PERP: dict[str, Any] = {
    "cash": 0.0,
    "stable_price": 1.0,
    "underlyings": {"ETH": {"spot": 2_000.0, "perp_price": 2_000.0, "open_interest": 3e7}},
    "positions": [{"kind": "perp", "underlying": "ETH", "quantity": 1.0}],
    "collateral": [],
}

quantities = st.floats(-5.0, 5.0).filter(lambda quantity: abs(quantity) > 1e-3)


@st.composite
def accounts(draw: st.DrawFn, collateral: bool = True) -> dict[str, Any]:
    """An account in ETH with perpetuals, spot, options of two expiries and collateral."""
    spot = draw(st.floats(1_500.0, 3_000.0))
    positions = [
        {"kind": kind, "underlying": "ETH", "quantity": draw(quantities), "entry_price": 2_000.0}
        for kind in draw(st.sets(st.sampled_from(["perp", "spot"])))
    ]
    for seconds in (900.0, WEEK):
        for kind in draw(st.sets(st.sampled_from(["call", "put"]))):
            option = {"kind": "option", "underlying": "ETH", "seconds_to_expiry": seconds}
            option |= {"strike": draw(st.sampled_from([1_800.0, 2_400.0])), "type": kind}
            positions.append(option | {"quantity": draw(quantities), "vol": 0.6})
    balances = [
        {"asset": "ETH", "amount": draw(st.floats(-1.0, 3.0)), "price": spot},
        {"asset": "SOL", "amount": draw(st.floats(-5.0, 9.0)), "price": 150.0},
    ]
    expiries = [
        {"seconds_to_expiry": left, "forward": spot * 1.01, "rate": 0.03} for left in (900.0, WEEK)
    ]
    return {
        "cash": draw(st.floats(-5_000.0, 20_000.0)),
        "stable_price": draw(st.sampled_from([1.0, 0.95])),
        "underlyings": {
            "ETH": {
                "spot": spot,
                "spot_confidence": draw(st.sampled_from([1.0, 0.2])),
                "perp_price": spot * draw(st.floats(0.8, 1.2)),
                "open_interest": 3e7,
                "expiries": expiries,
            }
        },
        "positions": positions,
        "collateral": balances if collateral else [],
    }


def portfolio(content: dict[str, Any], ruleset: RuleSet) -> Portfolio:
    """The account, without options where the engine takes none."""
    engine = engine_of(ruleset)
    positions = [
        one for one in content["positions"] if engine.margins_options or one["kind"] != "option"
    ]
    return portfolio_from(content | {"positions": positions})


def batch(contents: list[dict[str, Any]], ruleset: RuleSet) -> Portfolios:
    flat = flatten([portfolio(content, ruleset) for content in contents], ruleset.collateral)
    return replace(flat, history=CLOSES)


def rounding(margins: Margins, ruleset: RuleSet) -> float:
    """What float64 may lose in sums of these sizes, and what a quantum rounds up."""
    columns = [column for level in LEVELS for column in getattr(margins, level).values()]
    largest = float(np.abs(np.stack(columns)).max())
    return 1e-11 * (1.0 + largest) + 1e-5 * (ruleset.table == "tier")


def assert_same(one: Margins, other: Margins, rows: list[int]) -> None:
    """Figures of `one` are those of `other` in these rows, to the last bit."""
    for key in ("mark_to_market", "equity", "initial_margin", "maintenance_margin"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key)[rows], err_msg=key)
    for level in LEVELS:
        ours, theirs = getattr(one, level), getattr(other, level)
        assert set(ours) == set(theirs)
        for name, column in ours.items():
            np.testing.assert_array_equal(column, theirs[name][rows], err_msg=name)


def test_every_engine_has_a_preset_and_a_table_of_its_own() -> None:
    assert set(RULESETS) == set(ENGINES), "add a preset that uses the engine"
    for table, engine in ENGINES.items():
        assert engine.table == table
        config = engine.rules.__struct_config__
        assert config.frozen
        assert config.forbid_unknown_fields


@pytest.mark.parametrize("ruleset", PRESETS.values(), ids=PRESETS)
def test_a_rule_set_is_computed_by_the_engine_of_its_table(ruleset: RuleSet) -> None:
    engine = engine_of(ruleset)
    assert engine.table == ruleset.table
    assert engine.name == ruleset.engine
    assert isinstance(ruleset.engine_rules(engine.rules), engine.rules)
    for other in {one.rules for one in ENGINES.values()} - {engine.rules}:
        with pytest.raises(RuleSetError, match=other.__name__):
            ruleset.engine_rules(other)


@every_engine
@settings(max_examples=20, deadline=None)
@given(contents=st.lists(accounts(), min_size=1, max_size=3))
def test_components_and_parts_of_each_account_add_up(
    ruleset: RuleSet, contents: list[dict[str, Any]]
) -> None:
    flat = batch(contents, ruleset)
    margins = compute_margins(flat, ruleset)
    allowed = rounding(margins, ruleset)
    for i in range(len(contents)):
        parts, _ = explain_margins(flat, i, ruleset, 3)
        for level in LEVELS:
            net = getattr(margins, f"{level}_net")[i]
            components = [float(column[i]) for column in getattr(margins, level).values()]
            assert math.fsum(components) == pytest.approx(net, abs=allowed)
            amounts = [getattr(part, level) for part in parts]
            assert math.fsum(amounts) == pytest.approx(net, abs=allowed)


@every_engine
@settings(max_examples=20, deadline=None)
@given(content=accounts(collateral=False))
def test_linear_legs_without_collateral_are_charged_with_the_whole_margin(
    ruleset: RuleSet, content: dict[str, Any]
) -> None:
    content["positions"] = [one for one in content["positions"] if one["kind"] != "option"]
    margins = compute_margins(batch([content], ruleset), ruleset)
    for legs, total in (
        (margins.leg_initial, margins.initial_margin),
        (margins.leg_maintenance, margins.maintenance_margin),
    ):
        assert math.fsum(legs) == pytest.approx(total[0], rel=1e-12, abs=1e-9)


@every_engine
@settings(max_examples=20, deadline=None)
@given(content=accounts(), cash=st.sampled_from([1e15, -3.3e12, 0.1]))
def test_cash_adds_to_equity_and_takes_no_digit_from_the_margins(
    ruleset: RuleSet, content: dict[str, Any], cash: float
) -> None:
    before = compute_margins(batch([content | {"cash": 0.0}], ruleset), ruleset)
    after = compute_margins(batch([content | {"cash": cash}], ruleset), ruleset)
    for key in ("initial_margin", "maintenance_margin", "leg_initial", "leg_maintenance"):
        np.testing.assert_array_equal(getattr(after, key), getattr(before, key), err_msg=key)
    for key in ("equity", "mark_to_market"):
        gained = getattr(after, key) - cash
        assert gained == pytest.approx(getattr(before, key), abs=1e-15 * abs(cash) * 4 + 1e-9)


@every_engine
@settings(max_examples=20, deadline=None)
@given(contents=st.lists(accounts(), min_size=2, max_size=4), order=st.randoms())
def test_an_account_is_margined_alike_in_any_company(
    ruleset: RuleSet, contents: list[dict[str, Any]], order: Any
) -> None:
    flat = batch(contents, ruleset)
    whole = compute_margins(flat, ruleset)
    rows = list(range(len(contents)))
    order.shuffle(rows)
    assert_same(compute_margins(flat.take(np.array(rows)), ruleset), whole, rows)
    for i in rows:
        assert_same(compute_margins(flat.between(i, i + 1), ruleset), whole, [i])
        assert_same(compute_margins(batch([contents[i]], ruleset), ruleset), whole, [i])


@every_engine
@settings(max_examples=20, deadline=None)
@given(content=accounts(), order=st.randoms())
def test_order_and_splitting_of_positions_change_nothing(
    ruleset: RuleSet, content: dict[str, Any], order: Any
) -> None:
    halves = [
        one | {"quantity": one["quantity"] / 2} for one in content["positions"] for _ in range(2)
    ]
    order.shuffle(halves)
    whole = compute_margins(batch([content], ruleset), ruleset)
    split = compute_margins(batch([content | {"positions": halves}], ruleset), ruleset)
    for key in ("initial_margin", "maintenance_margin", "leg_initial", "leg_maintenance"):
        np.testing.assert_array_equal(getattr(split, key), getattr(whole, key), err_msg=key)


@every_engine
def test_an_empty_account_needs_nothing(ruleset: RuleSet) -> None:
    empty = Portfolio(cash=7.0, stable_price=1.0, underlyings={}, positions=(), collateral=())
    flat = flatten([empty], ruleset.collateral)
    margins = compute_margins(flat, ruleset)
    assert margins.equity.tolist() == margins.mark_to_market.tolist() == [7.0]
    assert margins.initial_margin.tolist() == margins.maintenance_margin.tolist() == [0.0]
    parts, worst = explain_margins(flat, 0, ruleset, 3)
    assert math.fsum(part.initial for part in parts) == 7.0
    assert all(scenario.pnl == 0.0 for scenario in worst or ())


@every_engine
@settings(max_examples=10, deadline=None)
@given(content=accounts())
def test_worst_scenarios_are_ranked_and_limited(ruleset: RuleSet, content: dict[str, Any]) -> None:
    flat = batch([content], ruleset)
    _, worst = explain_margins(flat, 0, ruleset, 3)
    assert worst == engine_of(ruleset).worst_scenarios(flat, 0, ruleset, 3)
    losses = [scenario.pnl for scenario in worst or ()]
    assert len(losses) <= 3
    assert losses == sorted(losses)


@every_engine
def test_an_account_beyond_float64_does_not_touch_its_neighbours(ruleset: RuleSet) -> None:
    huge = ONE_PERP | {"positions": [{"kind": "perp", "underlying": "ETH", "quantity": 1e308}]}
    both = compute_margins(batch([huge, ONE_PERP], ruleset), ruleset)
    assert not np.isfinite(both.maintenance_net[0])
    alone = compute_margins(batch([ONE_PERP], ruleset), ruleset)
    assert both.maintenance_net[1] == alone.maintenance_net[0]


@every_engine
def test_options_are_margined_or_refused_as_declared(ruleset: RuleSet) -> None:
    option = {"kind": "option", "underlying": "ETH", "seconds_to_expiry": WEEK, "strike": 2_000.0}
    content = {
        "cash": 0.0,
        "stable_price": 1.0,
        "underlyings": {
            "ETH": {
                "spot": 2_000.0,
                "perp_price": 2_000.0,
                "expiries": [{"seconds_to_expiry": WEEK, "forward": 2_000.0, "rate": 0.0}],
            }
        },
        "positions": [option | {"type": "call", "quantity": -1.0, "vol": 0.6}],
        "collateral": [],
    }
    flat = flatten([portfolio_from(content)], ruleset.collateral)
    flat = replace(flat, history=CLOSES)
    engine = engine_of(ruleset)
    if engine.margins_options:
        assert compute_margins(flat, ruleset).maintenance_margin[0] > 0.0
    else:
        with pytest.raises(InstrumentError, match="option"):
            compute_margins(flat, ruleset)


@every_engine
def test_daily_history_is_required_as_declared(ruleset: RuleSet) -> None:
    flat = flatten([portfolio_from(ONE_PERP)], ruleset.collateral)
    if engine_of(ruleset).needs_daily_history:
        with pytest.raises(CaseError, match="history"):
            compute_margins(flat, ruleset)
    else:
        assert compute_margins(flat, ruleset).maintenance_margin[0] > 0.0


@every_engine
@settings(max_examples=10, deadline=None)
@given(content=accounts())
def test_haircuts_are_shares(ruleset: RuleSet, content: dict[str, Any]) -> None:
    flat = batch([content], ruleset)
    haircuts = engine_of(ruleset).collateral_haircuts(flat.collateral, flat.underlyings, ruleset)
    assert haircuts.shape == flat.collateral.amount.shape
    assert ((haircuts >= 0.0) & (haircuts <= 1.0)).all()


@every_engine
def test_brackets_of_a_record_are_taken_or_refused(ruleset: RuleSet) -> None:
    engine = engine_of(ruleset)
    if type(engine).with_brackets is Engine.with_brackets:
        with pytest.raises(RuleSetError, match="no brackets"):
            engine.with_brackets(ruleset, {})
        return
    content = engine.with_brackets(ruleset, {"ETHUSDT": (Bracket(0.25, 0.5),)})
    flat = batch([ONE_PERP], ruleset)
    margins = compute_margins(flat, ruleset_from_content(content))
    assert margins.maintenance_margin == pytest.approx([500.0], abs=1e-5)
