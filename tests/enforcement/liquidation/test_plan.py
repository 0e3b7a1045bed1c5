"""Steps of a liquidation as instructions: the contract under every preset, and figures by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict

import msgspec
import pytest

from enforcement.liquidation.plan import Plan, Progress, held_quantity, plan_step
from margin.book.requirement import compute_requirement
from margin.life_cycle.states import NEVER
from margin.rules.liquidation import LiquidationRules, PartialRules
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.clock import HOUR, SECOND
from market.core.errors import DataError

BTC, ETH = "BTCUSDT-PERP", "ETHUSDT-PERP"
MARKS = {BTC: 100_000.0, ETH: 2_000.0}
KINDS = {"cancel_orders", "reduce_only", "close", "transfer_to_backstop", "auction", "deleverage"}


def figures(account: Account, view: MarketView, rules: RuleSet) -> tuple[float, float]:
    found = compute_requirement(Book.of([account]), view, rules)
    assert not found.problems
    return float(found.equity[0]), float(found.maintenance_margin[0])


def funded(share: float, view: MarketView, rules: RuleSet, *legs: Position) -> Account:
    """An account with this share of its maintenance margin as equity."""
    bare = Account("a", 0.0, legs)
    equity, margin = figures(bare, view, rules)
    return Account("a", share * margin - equity, legs)


def positions_after(account: Account, plan: Plan) -> dict[str, float]:
    left: dict[str, float] = defaultdict(float)
    for leg in account.positions:
        left[leg.instrument] += leg.quantity
    for draft in plan.drafts:
        if draft.kind in ("close", "deleverage"):
            left[draft.parameters["instrument"]] += draft.parameters["quantity"]
    return {name: quantity for name, quantity in left.items() if abs(quantity) > 1e-12}


@pytest.mark.parametrize("impact", [None, "depth"])
@pytest.mark.parametrize("share", [0.99, 0.6, 0.2, -0.3])
@pytest.mark.parametrize("name", list_rulesets())
def test_contract_of_every_preset(
    market: MarketView, name: str, share: float, impact: str | None
) -> None:
    rules = load_ruleset(name)
    if impact is not None:
        table = msgspec.structs.replace(rules.liquidation_or_default, price_impact="depth")
        rules = msgspec.structs.replace(rules, liquidation=table)
    liquidation = rules.liquidation_or_default
    legs = (Position(BTC, 3.0, 99_000.0), Position(BTC, 1.0, 101_000.0))
    account = funded(share, market, rules, *legs)
    equity, margin = figures(account, market, rules)
    progress = Progress(since=market.as_of)
    view = market
    for number in range(60):
        plan = plan_step(account, progress, view, rules)
        assert plan == plan_step(account, progress, view, rules)
        assert plan_step(plan.expected, plan.progress, view, rules).drafts == ()
        if not plan.drafts:
            break
        kinds = [draft.kind for draft in plan.drafts]
        assert set(kinds) <= KINDS
        opening = ["cancel_orders", "reduce_only"]
        assert kinds[:2] == opening if number == 0 else not set(kinds) & set(opening)
        assert json.loads(json.dumps(plan.figures())) == plan.figures()
        assert Progress.of_content(json.loads(json.dumps(plan.progress.to_content()))) == (
            plan.progress
        )
        assert (plan.progress.steps, plan.progress.last) == (number + 1, view.as_of)
        traded = [d for d in plan.drafts if d.kind in ("close", "deleverage")]
        names = [draft.parameters["instrument"] for draft in traded]
        assert len(names) == len(set(names))
        held = sum(leg.quantity for leg in account.positions)
        for draft in traded:
            assert -held <= draft.parameters["quantity"] < 0.0
            assert draft.parameters.get("limit_price", 0.0) <= MARKS[BTC]
        own, _ = figures(account, view, rules)
        if "transfer_to_backstop" in kinds:
            assert 0.0 < own < liquidation.backstop_share * margin
            (transfer,) = (d for d in plan.drafts if d.kind == "transfer_to_backstop")
            assert transfer.parameters["positions"] == {
                leg.instrument: held_quantity(account, leg.instrument) for leg in account.positions
            }
            assert plan.expected == Account("a", 0.0)
        elif "auction" in kinds:
            assert liquidation.auction is not msgspec.UNSET
            assert plan.offer is not None
            assert 0.0 < plan.offer["share"] <= 1.0
        else:
            after = {leg.instrument: 0.0 for leg in plan.expected.positions}
            for leg in plan.expected.positions:
                after[leg.instrument] += leg.quantity
            assert after == pytest.approx(positions_after(account, plan))
            equity_after, margin_after = figures(plan.expected, view, rules)
            assert plan.step is not None
            assert equity_after - margin_after == pytest.approx(plan.step.net_after, abs=1e-6)
            assert equity_after == pytest.approx(own - plan.step.fee - plan.step.impact, abs=1e-6)
            assert plan.step.impact > 0.0 or impact is None or plan.step.backstop
            limit = traded[0].parameters.get("limit_source")
            fund = liquidation.fund
            if traded[0].kind == "close" and fund and fund.fill_spread is not msgspec.UNSET:
                assert limit == "fillable_price"
            elif traded[0].kind == "close":
                assert limit == (None if impact is None else "depth")
        account, progress = plan.expected, plan.progress
        view = dataclasses.replace(view, as_of=view.as_of + 10 * SECOND)
    else:
        raise AssertionError("the liquidation does not end")
    assert progress.steps > 0
    if account.positions:
        equity, margin = figures(account, view, rules)
        assert equity >= margin


def test_quantities_and_limit_price_by_hand(view: MarketView) -> None:
    """Long 2 BTC and short 50 ETH with 3,000 of equity beside 6,000: everything at the estimate."""
    rules = msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        liquidation=LiquidationRules(PartialRules(method="whole"), price_impact="depth"),
    )
    account = funded(0.5, view, rules, Position(BTC, 2.0, 100_000.0), Position(ETH, -50.0, 2_000.0))
    plan = plan_step(account, Progress(since=0), view, rules)
    assert [draft.kind for draft in plan.drafts] == [
        "cancel_orders",
        "reduce_only",
        "close",
        "close",
    ]
    long, short = (draft.parameters for draft in plan.drafts[2:])
    assert (long["instrument"], long["quantity"]) == (BTC, -2.0)
    assert (short["instrument"], short["quantity"]) == (ETH, 50.0)
    btc_move = 0.005 * math.sqrt(24.0 * 200_000.0 / 1e9)
    eth_move = 0.006 * math.sqrt(24.0 * 100_000.0 / 5e8)
    assert long["limit_price"] == pytest.approx(100_000.0 * (1.0 - 0.0005 - 1.5 * btc_move))
    assert short["limit_price"] == pytest.approx(2_000.0 * (1.0 + 0.0005 + 1.5 * eth_move))
    assert plan.step is not None
    assert plan.step.impact == pytest.approx(
        200_000.0 * (0.0005 + btc_move) + 100_000.0 * (0.0005 + eth_move)
    )
    assert plan.expected.positions == ()


def test_a_withheld_market_is_left_alone(view: MarketView) -> None:
    rules = load_ruleset("linear-tiers")
    account = funded(0.9, view, rules, Position(BTC, 2.0, 100_000.0), Position(ETH, -50.0, 2_000.0))
    for withheld in ("BTCUSDT", BTC):
        plan = plan_step(
            account, Progress(since=-HOUR, steps=1, last=-HOUR), view, rules, [withheld]
        )
        assert plan.withheld == (BTC,)
        assert [draft.parameters["instrument"] for draft in plan.drafts] == [ETH]
        assert plan.expected.positions[0] == account.positions[0]
    both = plan_step(
        account, Progress(since=-HOUR, steps=1, last=-HOUR), view, rules, [BTC, "ETHUSDT"]
    )
    assert both.drafts == ()
    assert both.expected.positions == account.positions
    free = plan_step(account, Progress(since=-HOUR, steps=1, last=-HOUR), view, rules)
    assert {draft.parameters["instrument"] for draft in free.drafts} == {BTC, ETH}


@pytest.mark.parametrize(("name", "share"), [("hyperliquid", 0.5), ("derive-srm", 0.9)])
def test_a_withheld_account_is_neither_taken_over_nor_auctioned(
    market: MarketView, name: str, share: float
) -> None:
    rules = load_ruleset(name)
    account = funded(
        share, market, rules, Position(BTC, 2.0, 100_000.0), Position(ETH, 50.0, 2_000.0)
    )
    progress = Progress(since=market.as_of, steps=1)
    whole = plan_step(account, progress, market, rules)
    assert [draft.kind for draft in whole.drafts] in (["transfer_to_backstop"], ["auction"])
    plan = plan_step(account, progress, market, rules, ["BTCUSDT"])
    assert [(draft.kind, draft.parameters["instrument"]) for draft in plan.drafts] == [
        ("close", ETH)
    ]


def test_an_account_that_meets_its_margin_gets_nothing(view: MarketView) -> None:
    rules = load_ruleset("linear-tiers")
    account = funded(1.0001, view, rules, Position(BTC, 2.0, 100_000.0))
    progress = Progress(since=0)
    plan = plan_step(account, progress, view, rules)
    assert plan == Plan((), None, None, progress, account)
    assert plan.figures() == {}
    assert progress.last == NEVER
    with pytest.raises(DataError, match="SOLUSDT"):
        plan_step(Account("a", 1.0, (Position("SOLUSDT-PERP", 1.0),)), progress, view, rules)


def test_time_counts_from_the_begin_of_the_liquidation(market: MarketView) -> None:
    """Derive asks less as time passes; Drift frees a tenth of the shortage at once, all later."""
    rules = load_ruleset("derive-srm")
    account = funded(0.9, market, rules, Position(BTC, 2.0, 100_000.0))
    early = plan_step(account, Progress(market.as_of, 1, market.as_of - SECOND), market, rules)
    late = plan_step(
        account, Progress(market.as_of - HOUR, 1, market.as_of - SECOND), market, rules
    )
    assert early.offer is not None
    assert late.offer is not None
    assert early.offer["price_factor"] == 0.95
    assert late.offer["price_factor"] < 0.70
    slow = load_ruleset("drift-v2")
    account = funded(0.9, market, slow, Position(BTC, 2.0, 100_000.0))
    first = plan_step(account, Progress(market.as_of), market, slow).step
    then = plan_step(account, Progress(market.as_of - 60 * SECOND), market, slow).step
    assert first is not None
    assert then is not None
    assert first.shares[0] < then.shares[0]
