"""Default resources over time: the order of the waterfall, its records and its round trip."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from enforcement.liquidation.plan import Plan, Progress, plan_step
from enforcement.liquidation.resources import DefaultResources, settlement_payload
from margin.book.requirement import compute_requirement
from margin.liquidation.shortfall import ClosedPosition
from margin.liquidation.waterfall import Survivors, balances
from margin.rules.liquidation import (
    DeleverageRules,
    FundRules,
    LiquidationRules,
    LossSharingRules,
    PartialRules,
)
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position

BTC, ETH = "BTCUSDT-PERP", "ETHUSDT-PERP"


def full_rules() -> RuleSet:
    return msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        liquidation=LiquidationRules(
            PartialRules(fee_rate=0.001),
            fund=FundRules(balance=1_000.0),
            deleverage=DeleverageRules("profit_leverage"),
            loss_sharing=LossSharingRules("equity"),
        ),
    )


def test_each_resource_pays_in_its_turn(view: MarketView) -> None:
    """A debt of 10,000: the fund has 1,000, the winner 4,000 of profit, equity shares the rest."""
    rules = full_rules()
    survivors = [
        Account("flat", 30_000.0, (Position(BTC, 1.0, 100_000.0),)),
        Account("winner", 26_000.0, (Position(BTC, -1.0, 104_000.0),)),
    ]
    book = Book.of(survivors)
    margins = compute_requirement(book, view, rules)
    resources = DefaultResources().under(rules)
    after, settlement = resources.settle(
        Account("debtor", -10_000.0),
        10_000.0,
        [ClosedPosition(BTC, 2.0, 200_000.0)],
        Survivors(book, margins, np.ones(2, dtype=np.bool_)),
        (view, rules),
        300,
    )
    assert [(one.account_id, one.instrument, one.quantity, one.until) for one in after.bearers] == [
        ("winner", BTC, -1.0, 300),
        ("flat", "", 0.0, 300),
        ("winner", "", 0.0, 300),
    ]
    assert DefaultResources.of_content(json.loads(json.dumps(after.to_content()))) == after
    coverage = settlement.coverage
    assert coverage.fund_paid == 1_000.0
    assert coverage.deleveraged == pytest.approx(4_000.0)
    # 5,000 by equities of 30,000 and 26,000 after the loss.
    assert coverage.shared == pytest.approx(5_000.0)
    flat, winner = settlement.accounts
    assert flat.cash == pytest.approx(30_000.0 - 5_000.0 * 30.0 / 56.0)
    assert winner.positions == ()
    assert winner.cash == pytest.approx(26_000.0 - 5_000.0 * 26.0 / 56.0)
    assert coverage.uncovered == 0.0
    assert after.fund is not None
    assert after.fund.balance == 0.0
    assert (after.shortfall, after.shared) == (10_000.0, coverage.shared)
    (draft,) = settlement.drafts
    assert draft[0] == "winner"
    assert draft[1].kind == "deleverage"
    assert draft[1].parameters["quantity"] == 1.0
    assert draft[1].parameters["price"] == pytest.approx(104_000.0)
    flows = balances(settlement.transfers)
    assert sum(flows.values()) == pytest.approx(0.0, abs=1e-9)
    assert flows["account:debtor"] == pytest.approx(10_000.0)
    assert flows["fund"] == -1_000.0
    payload = settlement_payload(settlement, after)
    shared = {"flat": 5_000.0 * 30.0 / 56.0, "winner": 5_000.0 * 26.0 / 56.0}
    assert payload["shares"] == pytest.approx(shared)
    assert payload["shortfall"] == sum(
        payload[key] for key in ("fund_paid", "deleveraged", "shared", "uncovered")
    )
    assert json.loads(json.dumps(payload)) == payload


def booked(resources: DefaultResources, plan: Plan, part: float = 1.0) -> DefaultResources:
    """The resources once a part of each instruction of a plan is carried out."""
    for draft in plan.drafts:
        resources = resources.after_fill(draft.parameters, part)
    return resources


def test_fee_and_impact_are_booked_for_the_part_that_is_traded(view: MarketView) -> None:
    rules = full_rules()
    table = msgspec.structs.replace(rules.liquidation_or_default, price_impact="depth")
    rules = msgspec.structs.replace(rules, liquidation=table)
    legs = (Position(BTC, 1.0, 100_000.0), Position(ETH, 10.0, 2_000.0))
    plan = plan_step(Account("a", 1_000.0, legs), Progress(since=0), view, rules)
    assert plan.step is not None
    assert len([draft for draft in plan.drafts if draft.kind == "close"]) == 2
    half = booked(DefaultResources(), plan, 0.5)
    assert half.fees == pytest.approx(0.5 * plan.step.fee)
    assert half.impact == pytest.approx(0.5 * plan.step.impact)
    assert half.impact > 0.0
    assert booked(DefaultResources(), plan, 0.0) == DefaultResources()


def test_resources_add_up_steps_and_survive_a_round_trip(view: MarketView) -> None:
    rules = full_rules()
    account = Account("a", 1_000.0, (Position(BTC, 1.0, 100_000.0),))
    plan = plan_step(account, Progress(since=0), view, rules)
    assert plan.step is not None
    resources = booked(DefaultResources().under(rules), plan)
    assert resources.fund is not None
    assert resources.fund.balance == pytest.approx(1_000.0 + plan.step.fee)
    assert resources.fees == pytest.approx(plan.step.fee)
    assert resources.fees > 0.0
    again = DefaultResources.of_content(json.loads(json.dumps(resources.to_content())))
    assert again == resources
    empty = DefaultResources()
    assert DefaultResources.of_content(json.loads(json.dumps(empty.to_content()))) == empty
    # The fund opens once: another rule set later does not refill it.
    assert resources.under(rules) is resources
    assert empty.under(load_ruleset("linear-tiers")).fund is None


def test_a_takeover_counts_the_equity_that_the_backstop_takes(market: MarketView) -> None:
    rules = load_ruleset("hyperliquid")
    account = Account("a", 600.0, (Position(BTC, 1.0, 100_000.0),))
    plan = plan_step(account, Progress(since=market.as_of), market, rules)
    assert [draft.kind for draft in plan.drafts][-1] == "transfer_to_backstop"
    assert booked(DefaultResources(), plan).taken_over == pytest.approx(600.0)
