"""Promises of explanations and what-ifs that hold under every preset, options included."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Holding, Portfolio, portfolio_from
from margin.engines.margins import total
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from margin.what_if.difference import difference
from margin.what_if.outcome import Outcome, margins_of, outcome, outcomes
from margin.what_if.remedies import find_remedies
from margin.what_if.sizing import largest_size
from margin.what_if.trades import Change

WEEK = 7 * 86_400.0
RULES = {name: load_ruleset(name) for name in list_rulesets()}
presets = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)

_STEPS = np.random.default_rng(1).normal(0.0, 0.03, 460)
HISTORY = {
    "until": "2025-06-01T00:00:00Z",
    "closes": {"ETH": (2_000.0 * np.exp(_STEPS.cumsum())).tolist()},
}

quantities = st.floats(-5.0, 5.0).filter(lambda q: abs(q) > 1e-3)


def takes_options(rules: RuleSet) -> bool:
    return engine_of(rules).margins_options


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """An account in ETH: perps with profit, collateral, options of two expiries if wanted."""
    spot = draw(st.floats(1_500.0, 3_000.0))
    expiries = [
        {"seconds_to_expiry": left, "forward": spot * 1.01, "rate": 0.03} for left in (900.0, WEEK)
    ]
    perps = [
        {"kind": "perp", "underlying": "ETH", "quantity": q, "entry_price": 2_000.0}
        for q in draw(st.lists(quantities, max_size=2))
    ]
    options = [
        {
            "kind": "option",
            "underlying": "ETH",
            "seconds_to_expiry": left,
            "strike": strike,
            "type": kind,
            "quantity": draw(quantities),
            "vol": 0.6,
        }
        for left in (900.0, WEEK)
        for strike in (1_800.0, 2_400.0)
        for kind in draw(st.sets(st.sampled_from(["call", "put"])))
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
        "positions": perps + options,
        "collateral": [{"asset": "ETH", "amount": draw(st.floats(-1.0, 3.0)), "price": spot}],
    }


def account(content: dict[str, Any], rules: RuleSet) -> Portfolio:
    positions = content["positions"]
    if not takes_options(rules):
        positions = [position for position in positions if position["kind"] != "option"]
    history = {"history": HISTORY} if engine_of(rules).needs_daily_history else {}
    return portfolio_from(content | {"positions": positions} | history)


def close(rules: RuleSet, portfolio: Portfolio) -> float:
    """What float64 may lose in sums of this size."""
    return 1e-9 * sum(1.0 + abs(figure) for figure in margins_of([portfolio], rules)[0]) + 1e-5 * (
        rules.engine == "tier"  # a quantum rounds positions up
    )


def trades(rules: RuleSet, quantity: float) -> tuple[Holding, ...]:
    perp = Holding(kind="perp", underlying="ETH", quantity=quantity)
    option = Holding(
        kind="option",
        underlying="ETH",
        quantity=-quantity,
        seconds_to_expiry=WEEK,
        strike=2_100.0,
        type="call",
        vol=0.7,
    )
    return (perp, option) if takes_options(rules) else (perp,)


@presets
@settings(max_examples=15, deadline=None)
@given(content=contents())
def test_parts_and_components_add_up(rules: RuleSet, content: dict[str, Any]) -> None:
    portfolio = account(content, rules)
    flat = flatten([portfolio], rules.collateral)
    engine = engine_of(rules)
    margins, parts = engine.margins(flat, rules), engine.parts(flat, 0, rules)
    allowed = close(rules, portfolio)
    for level in ("initial", "maintenance"):
        net = getattr(margins, f"{level}_net")[0]
        assert total(getattr(part, level) for part in parts) == pytest.approx(net, abs=allowed)
        components = getattr(margins, level).values()
        assert total(float(one[0]) for one in components) == pytest.approx(net, abs=allowed)


@presets
@settings(max_examples=15, deadline=None)
@given(content=contents(), quantity=quantities)
def test_trades_at_the_mark_keep_the_value_and_mutate_nothing(
    rules: RuleSet, content: dict[str, Any], quantity: float
) -> None:
    portfolio = account(content, rules)
    encoded = msgspec.json.encode(portfolio)
    change = Change(deposit=12.5, trades=trades(rules, quantity))
    before, after = outcomes(portfolio, [Change(), change], rules)
    allowed = close(rules, portfolio) + close(rules, after.portfolio)
    assert msgspec.json.encode(portfolio) == encoded
    assert after.mark_to_market == pytest.approx(before.mark_to_market + 12.5, abs=allowed)
    assert _figures(outcome(after.portfolio, rules)) == pytest.approx(_figures(after), abs=allowed)
    # And back again: the requirement is what it was.
    back = tuple(
        msgspec.structs.replace(trade, quantity=-trade.quantity) for trade in change.trades
    )
    (undone,) = outcomes(after.portfolio, [Change(-12.5, back)], rules)
    assert undone.maintenance_requirement == pytest.approx(
        before.maintenance_requirement, abs=allowed
    )


@presets
@settings(max_examples=8, deadline=None)
@given(content=contents(), short_of=st.floats(1.0, 5_000.0))
def test_remedies_reach_what_they_promise(
    rules: RuleSet, content: dict[str, Any], short_of: float
) -> None:
    portfolio = account(content, rules)
    now = outcome(portfolio, rules)
    target = now.maintenance_net_margin + short_of
    found = find_remedies(portfolio, rules, target)
    allowed = close(rules, portfolio)

    def reached(changes: list[Change]) -> float:
        last = now
        for change in changes:
            (last,) = outcomes(last.portfolio, [change], rules)
        return last.maintenance_net_margin

    assert reached([Change(found.deposit)]) >= target - allowed
    by_name = {held.name: held for held in portfolio.positions}
    for cut in found.single:
        trade = msgspec.structs.replace(by_name[cut.instrument], quantity=cut.quantity)
        assert reached([Change(-cut.cost, (trade,))]) == pytest.approx(cut.headroom, abs=allowed)
        assert cut.headroom >= target
    plan = [
        Change(
            -cut.cost,
            (msgspec.structs.replace(by_name[cut.instrument], quantity=cut.quantity),),
        )
        for cut in found.plan
    ]
    assert reached([*plan, Change(found.deposit_after_plan)]) >= target - allowed


@presets
@settings(max_examples=8, deadline=None)
@given(content=contents(), side=st.sampled_from([1.0, -1.0]))
def test_the_largest_size_fits_and_a_little_more_does_not(
    rules: RuleSet, content: dict[str, Any], side: float
) -> None:
    portfolio = account(content, rules)
    for trade in trades(rules, side):
        size = largest_size(portfolio, trade, rules)
        if size == 0.0 or not np.isfinite(size):
            continue
        changes = [
            Change(trades=(msgspec.structs.replace(trade, quantity=q),))
            for q in (size, size * (1 + 1e-6))
        ]
        fits, beyond = outcomes(portfolio, changes, rules)
        allowed = 1e-9 * abs(fits.mark_to_market) + close(rules, portfolio)
        assert fits.initial_net_margin >= -allowed
        assert beyond.initial_net_margin <= allowed


@presets
@settings(max_examples=15, deadline=None)
@given(first=contents(), second=contents(), elapsed=st.sampled_from([0.0, 3_600.0]))
def test_steps_of_a_difference_add_up(
    rules: RuleSet, first: dict[str, Any], second: dict[str, Any], elapsed: float
) -> None:
    before, after = account(first, rules), account(second, rules)
    steps = difference(before, rules, after, rules, elapsed)
    whole = zip(*margins_of([after, before], rules), strict=True)
    allowed = close(rules, before) + close(rules, after)
    sums = (
        total(getattr(step, key) for step in steps)
        for key in ("mark_to_market", "initial_net_margin", "maintenance_net_margin")
    )
    for found, (late, early) in zip(sums, whole, strict=True):
        assert found == pytest.approx(late - early, abs=allowed)


def _figures(found: Outcome) -> tuple[float, float, float]:
    return (found.mark_to_market, found.initial_net_margin, found.maintenance_net_margin)
