"""Answers of the venue and debts: what is given again, booked, settled and taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from enforcement.calls.instruction import Instruction
from enforcement.calls.memory import Memory
from enforcement.controls.commands import CommandLog
from enforcement.record.live_enforcement import LiveEnforcement
from enforcement.record.rows import read_open_calls, read_open_instructions
from ledger.store import Ledger
from margin.rules.liquidation import (
    AuctionRules,
    DeleverageRules,
    FundRules,
    LiquidationRules,
    LossSharingRules,
)
from margin.rules.ruleset import load_ruleset
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.enforcement.calls.test_live_commands import FIRST, command, events
from tests.monitoring.evaluation.helpers import Watched, deltas, snapshot, watched

BTC = "BTCUSDT-PERP"
AUCTION = AuctionRules(
    start=0.95,
    knee=0.7,
    fast_seconds=900.0,
    slow_seconds=43_200.0,
    insolvent_seconds=3_600.0,
    buffer=0.15,
    fee_rate=0.1,
)
CLOSES = LiquidationRules()
SALE = LiquidationRules(auction=AUCTION, fund=FundRules())
BACKSTOP = LiquidationRules(backstop_share=0.667)
DELEVERAGE = LiquidationRules(deleverage=DeleverageRules(ranking="profit_leverage"))
SHARING = LiquidationRules(loss_sharing=LossSharingRules(basis="equity"))

Make = Callable[..., tuple[Watched, LiveEnforcement]]


@pytest.fixture
def make(market: SmallMarket, bundles: Bundles, ledger: Ledger) -> Make:
    """A watched book under a table ``[liquidation]``."""

    def made(table: LiquidationRules = CLOSES) -> tuple[Watched, LiveEnforcement]:
        rules = msgspec.structs.replace(load_ruleset("linear-tiers"), liquidation=table)
        enforcement = LiveEnforcement(ledger)
        return watched(market, rules, bundles, ledger, FIRST, enforcement), enforcement

    return made


def memory(enforcement: LiveEnforcement) -> Memory:
    return enforcement.engine.memory


def settled(w: Watched) -> list[float]:
    return [record.payload["shortfall"] for record in w.ledger.records("default_resources")]


def opened(w: Watched, kind: str) -> list[Instruction]:
    return [one for one in read_open_instructions(w.ledger) if one.kind == kind]


def answer(w: Watched, one: Instruction, status: str, **more: Any) -> dict[str, Any]:
    name = one.instruction_id
    return command(w, "acknowledge", "venue", instruction_id=name, status=status, **more)


def winner(sequence: int = 1) -> dict[str, Any]:
    """A short position that was entered high above the market."""
    leg = {"instrument": BTC, "quantity": -0.5, "entry_price": 150_000.0}
    account = {"cash": 1e6, "positions": [leg]}
    return {"account_id": "rich", "sequence": sequence, "snapshot": account}


def bankrupt(w: Watched, *names: str) -> None:
    """Accounts that owe 50 without positions."""
    w.update(*(snapshot(name, 1, 400.0, BTC=0.5) for name in names or ("c",)))
    w.settle()
    w.update(*(snapshot(name, 2, -50.0) for name in names or ("c",)))
    w.settle()


def test_a_solvent_account_that_trades_again_has_no_old_call(make: Make) -> None:
    w, _ = make()
    bankrupt(w)
    w.update(snapshot("c", 3, 200_000.0, BTC=0.5))
    w.settle()
    assert read_open_calls(w.ledger) == []
    assert events(w)[-1] == "closed"
    w.update(snapshot("c", 4, 1_000.0, BTC=0.5))
    w.settle()
    (call,) = read_open_calls(w.ledger)
    assert (call.kind, call.number) == ("call", 1)
    assert command(w, "acknowledge_call", "venue", call_id=call.call_id)["result"] == "applied"
    w.update(snapshot("c", 5, -40.0))
    w.settle()
    assert settled(w) == pytest.approx([50.0, 40.0])


def test_what_was_paid_in_is_not_taken_for_settled(make: Make) -> None:
    w, _ = make()
    bankrupt(w)
    w.update(deltas("c", 3, {"kind": "deposit", "asset": "USD", "amount": 30.0}))
    w.settle()
    w.restart()
    w.settle()
    w.update(snapshot("c", 4, -20.0, BTC=-0.5))
    w.settle()
    w.update(snapshot("c", 5, -45.0))
    w.settle()
    assert settled(w) == pytest.approx([50.0, 25.0])


def test_a_further_debt_of_a_time_without_instructions_is_settled_later(make: Make) -> None:
    w, _ = make()
    bankrupt(w)
    command(w, "mode", modes=["no_instructions"], reason="an outage")
    w.update(snapshot("c", 3, -50.0, BTC=-0.5))
    w.settle()
    w.update(snapshot("c", 4, -70.0))
    w.settle()
    command(w, "mode", modes=["normal"], reason="over")
    w.bars(FIRST)
    w.settle()
    assert settled(w) == pytest.approx([50.0, 20.0])


def test_another_update_is_not_taken_for_that_of_a_fill(make: Make) -> None:
    w, _ = make()
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    (close,) = opened(w, "close")
    w.update(deltas("c", 2, {"kind": "deposit", "asset": "USD", "amount": 1.0}))
    w.settle()
    quantity = close.parameters["quantity"]
    assert answer(w, close, "filled", quantity=quantity, price=9e4)["result"] == "applied"
    w.marks(1.0, 60)
    w.settle()
    assert opened(w, "close") == []
    w.update(snapshot("c", 3, 50.0, BTC=0.5 + quantity))
    w.settle()
    assert [one.parameters["position"] for one in opened(w, "close")] == [0.5 + quantity]


def test_a_winner_is_asked_again_only_once_it_has_been_reported(make: Make) -> None:
    w, _ = make(DELEVERAGE)
    w.update(winner())
    bankrupt(w, "a", "b")
    (first,) = opened(w, "deleverage")
    given = {"quantity": first.parameters["quantity"], "price": first.parameters["price"]}
    assert answer(w, first, "filled", **given)["result"] == "applied"
    w.restart()
    w.settle()
    assert opened(w, "deleverage") == []
    left = -0.5 + first.parameters["quantity"]
    w.update(deltas("rich", 2, {"kind": "fill", "instrument": BTC, **given}))
    w.settle()
    (second,) = opened(w, "deleverage")
    assert second.parameters["bankrupt_account"] == "b"
    assert second.parameters["quantity"] <= -left


def test_losses_are_shared_by_what_accounts_have_then(make: Make) -> None:
    w, _ = make(SHARING)
    w.update(snapshot("rich", 1, 60.0))
    bankrupt(w, "a", "b")
    w.marks(1.0, 1)
    w.settle()
    assert settled(w) == pytest.approx([50.0])
    w.update(snapshot("rich", 2, 10.0))
    w.settle()
    w.marks(1.0, 2)
    w.settle()
    found = [record.payload for record in w.ledger.records("default_resources")]
    assert [one["shares"] for one in found] == [{"rich": 50.0}, {"rich": 10.0}]
    assert [one["uncovered"] for one in found] == pytest.approx([0.0, 40.0])


@pytest.mark.parametrize("how", ["rejected", "partly_filled", "timed_out"])
def test_a_part_that_a_winner_did_not_bear_is_owed_again(make: Make, how: str) -> None:
    w, enforcement = make(DELEVERAGE)
    w.update(winner())
    bankrupt(w)
    (one,) = opened(w, "deleverage")
    borne = 0.0
    if how == "partly_filled":
        half = 0.5 * one.parameters["quantity"]
        answer(w, one, how, quantity=half, price=one.parameters["price"])
        borne = 25.0
    elif how == "rejected":
        answer(w, one, how)
    for row in range(FIRST, FIRST + 3):
        w.bars(row)
        w.settle()
    first, taken_back, again = (r.payload for r in w.ledger.records("default_resources"))
    assert taken_back["instruction_id"] == one.instruction_id
    assert taken_back["deleveraged"] == pytest.approx(borne - 50.0)
    assert again["uncovered"] == pytest.approx(50.0 - borne)
    assert opened(w, "deleverage") == []
    resources = memory(enforcement).resources
    assert resources.shortfall == pytest.approx(50.0)
    assert resources.deleveraged == pytest.approx(borne)
    assert resources.uncovered == pytest.approx(50.0 - borne)
    assert sum(r["shortfall"] for r in (first, taken_back, again)) == pytest.approx(50.0)


def test_an_account_that_recovers_is_not_deleveraged(make: Make) -> None:
    w, _ = make(DELEVERAGE)
    w.update(snapshot("c", 1, -400.0, BTC=0.5))
    w.settle()
    assert len(opened(w, "deleverage")) == 1
    w.update(deltas("c", 2, {"kind": "deposit", "asset": "USD", "amount": 50_000.0}))
    w.settle()
    assert events(w)[-1] == "reinstated"
    assert read_open_instructions(w.ledger) == []


def test_a_sale_at_auction_that_was_seen_waits_for_its_answer(make: Make) -> None:
    w, enforcement = make(SALE)
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    (sale,) = opened(w, "auction")
    w.update(snapshot("c", 2, 395.0, BTC=0.5 * (1.0 - sale.parameters["share"]) * 0.9))
    w.settle()
    assert events(w)[-1] == "reinstated"
    assert answer(w, sale, "filled")["result"] == "applied"
    resources = memory(enforcement).resources
    assert resources.fees == pytest.approx(sale.parameters["fee"])
    assert resources.discounts == pytest.approx(sale.parameters["discount"])


def test_a_sale_that_nobody_took_counts_for_nothing(make: Make) -> None:
    w, _ = make(SALE)
    w.update(snapshot("c", 1, 400.0, BTC=0.5))
    w.settle()
    sales = []
    for step in range(3):
        (sale,) = opened(w, "auction")
        sales.append(sale.parameters)
        answer(w, sale, "rejected")
        assert read_open_calls(w.ledger)[0].progress["reserved"] == 0.0  # type: ignore[index]
        w.marks(1.0, 1_300 * 2**step)
        w.settle()
    fees = [sale["fee"] for sale in sales]
    assert fees == pytest.approx([fees[0]] * len(fees))
    assert fees[0] > 0.0


@pytest.mark.parametrize(("status", "end"), [("rejected", "closed"), ("filled", "taken_over")])
def test_an_account_is_taken_over_only_where_the_venue_says_so(
    make: Make, status: str, end: str
) -> None:
    w, enforcement = make(BACKSTOP)
    w.update(snapshot("c", 1, 300.0, BTC=0.5))
    w.settle()
    (transfer,) = opened(w, "transfer_to_backstop")
    answer(w, transfer, status)
    w.update(snapshot("c", 2, 250.0))
    w.settle()
    assert events(w)[-1] == end
    assert (memory(enforcement).resources.taken_over > 0.0) == (end == "taken_over")


def test_an_account_may_be_taken_over_before_the_venue_answers(make: Make) -> None:
    w, _ = make(BACKSTOP)
    w.update(snapshot("c", 1, 300.0, BTC=0.5))
    w.settle()
    w.update(snapshot("c", 2, 0.0))
    w.settle()
    assert events(w)[-1] == "taken_over"


def test_the_rejection_of_a_winner_does_not_pause_its_own_liquidation(make: Make) -> None:
    w, _ = make(DELEVERAGE)
    short = winner()
    short["snapshot"]["cash"] = -22_600.0
    w.update(short)
    w.settle()
    for row in range(FIRST, FIRST + 30):
        if read_open_calls(w.ledger)[0].state == "reduce_only":
            break
        w.bars(row)
        w.settle()
    (call,) = read_open_calls(w.ledger)
    assert call.state == "reduce_only"
    bankrupt(w)
    (one,) = opened(w, "deleverage")
    assert (one.account_id, answer(w, one, "rejected")["result"]) == ("rich", "applied")
    (call,) = (c for c in read_open_calls(w.ledger) if c.account_id == "rich")
    assert call.progress is not None
    assert "rejected_until" not in call.progress


def test_a_dispute_that_was_resolved_in_its_step_is_so_after_a_restart(make: Make) -> None:
    w, enforcement = make()
    w.update(snapshot("c", 1, 1_000.0, BTC=0.5))
    w.settle()
    (call,) = read_open_calls(w.ledger)
    log, now = CommandLog(w.ledger), w.market.live.state.newest_known
    assert now is not None
    named = {"requester": "desk", "call_id": call.call_id}
    log.append({"command": "dispute", "reason": "price", **named}, now)
    log.append({"command": "resolve", "outcome": "rejected", "note": "no", **named}, now)
    w.settle()
    assert memory(enforcement).calls["c"].dispute_end == "rejected"
    w.restart()
    w.settle()
    assert read_open_calls(w.ledger)[0].dispute_end == "rejected"
    assert command(w, "dispute", call_id=call.call_id, reason="price")["result"] == "refused"


def test_a_fund_opens_once_also_where_nothing_has_happened(
    make: Make, market: SmallMarket, bundles: Bundles, ledger: Ledger
) -> None:
    w, _ = make(LiquidationRules(fund=FundRules(balance=100.0)))
    w.update(snapshot("x", 1, 1e6))
    w.settle()
    w.monitor.close()
    other = LiquidationRules(fund=FundRules(balance=7.0))
    rules = msgspec.structs.replace(load_ruleset("linear-tiers"), liquidation=other)
    enforcement = LiveEnforcement(ledger)
    again = watched(market, rules, bundles, ledger, FIRST, enforcement)
    again.update(snapshot("x", 2, 1e6))
    again.settle()
    fund = memory(enforcement).resources.fund
    assert fund is not None
    assert fund.balance == 100.0
