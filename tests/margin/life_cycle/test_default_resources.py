"""Auction, fund and deleverage in a replay: money changes hands and none appears."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ledger.canonical import canonical_bytes
from margin.book.requirement import compute_requirement
from margin.life_cycle.replay import LifeCycleHistory, _Replay, replay_life_cycle
from margin.life_cycle.states import State
from margin.liquidation.insurance_fund import InsuranceFund
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.liquidation import (
    AuctionRules,
    DeleverageRules,
    FundRules,
    LiquidationRules,
    PartialRules,
)
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.account_files import AccountHistory, make_history
from market.accounts.book import Account, Book, Position
from market.core.clock import HOUR
from market.sources.base import AccountUpdates

AUCTION = AuctionRules(0.95, 0.7, 900.0, 43_200.0, 3_600.0, buffer=0.15, fee_rate=0.1)
RANKINGS = ["profit_leverage", "profit_margin_ratio", "price_leverage", "account"]


def venue(**tables: Any) -> RuleSet:
    return msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        life_cycle=LifeCycleRules(stop_out_share=1.0, call_hours=0.0, cure_share=0.0),
        liquidation=LiquidationRules(**tables),
    )


def views(prices: list[float]) -> list[MarketView]:
    unknown = np.full(1, np.nan)
    return [
        MarketView(
            as_of=hour * HOUR,
            symbols=("BTCUSDT",),
            mark=np.array([price]),
            age_hours=unknown,
            volatility=unknown,
            adv=unknown,
            correlation=np.full((1, 1), np.nan),
        )
        for hour, price in enumerate(prices)
    ]


def accounts_of(rows: list[tuple[float, float]]) -> AccountHistory:
    """Accounts as (leverage, signed quantity), entered at 100."""
    return make_history(
        [
            AccountUpdates(
                0,
                Book.of(
                    [
                        Account(
                            f"a{k:02d}",
                            abs(quantity) * 100.0 / leverage,
                            (Position("BTCUSDT-PERP", quantity, 100.0),),
                        )
                        for k, (leverage, quantity) in enumerate(rows)
                    ]
                ),
            )
        ]
    )


VENUES = st.builds(
    venue,
    partial=st.builds(
        PartialRules,
        order=st.sampled_from(["pro_rata", "largest_first"]),
        fee_rate=st.sampled_from([0.0, 0.002]),
    ),
    auction=st.sampled_from([AUCTION, msgspec.UNSET]),
    fund=st.builds(
        FundRules,
        balance=st.sampled_from([0.0, 50.0, 1e6]),
        max_draw=st.sampled_from([20.0, 1e6]),
    )
    | st.just(msgspec.UNSET),
    deleverage=st.builds(DeleverageRules, ranking=st.sampled_from(RANKINGS))
    | st.just(msgspec.UNSET),
)
ROWS = st.lists(
    st.tuples(st.floats(3.0, 45.0), st.sampled_from([-20.0, -5.0, -1.0, 1.0, 5.0, 20.0])),
    min_size=2,
    max_size=10,
)
PATHS = st.lists(st.floats(-0.12, 0.12), min_size=1, max_size=6)


def prices_of(returns: list[float]) -> list[float]:
    return [100.0, *(100.0 * np.exp(np.cumsum(returns))).tolist()]


@settings(max_examples=120, deadline=None)
@given(VENUES, ROWS, PATHS)
def test_money_is_conserved_at_every_close(
    ruleset: RuleSet, rows: list[tuple[float, float]], returns: list[float]
) -> None:
    """Accounts + fund + buyers + venue stay what they were, but for what nobody bore."""
    replay = _Replay(accounts_of(rows), default_resources=True)
    history = replay.history

    def worth(view: MarketView) -> float:
        book, _ = replay._accounts.at(view)
        return math.fsum(compute_requirement(book, view, ruleset).equity.tolist())

    for view in views(prices_of(returns)):
        before = worth(view)
        outside = _outside(history, ruleset)
        uncovered = history.uncovered
        closed = history.states.state == State.CLOSED
        replay.advance_to(view, ruleset)
        # An account that was closed with something left takes it along.
        leavers = math.fsum(
            event["figures"]["equity"]
            for event in history.events
            if event["event"] == "transition"
            and event["time"] == view.as_of
            and event["reason"] == "positions_closed"
        )
        after = worth(view) + leavers + _outside(history, ruleset) - outside
        assert after - (history.uncovered - uncovered) == pytest.approx(before, abs=1e-6)
        assert history.fund is None or history.fund.balance >= 0.0
        assert (closed <= (history.states.state == State.CLOSED)).all()
    fund_paid = 0.0 if history.fund is None else history.fund.paid
    assert history.shortfall == pytest.approx(
        fund_paid + history.deleveraged + history.uncovered, abs=1e-9
    )
    for event in history.events:
        if event["event"] == "deleverage":
            # From its entry at 100 the winner gives up its profit at most, so never buys back
            # above 100 or sells below.
            assert math.copysign(1.0, event["quantity"]) * (event["price"] - 100.0) >= -1e-9
            assert event["loss"] >= 0.0
        if event["event"] == "shortfall":
            parts = event["fund_paid"] + event["deleveraged"] + event["uncovered"]
            assert event["shortfall"] == pytest.approx(parts, abs=1e-9)


def _outside(history: LifeCycleHistory, ruleset: RuleSet) -> float:
    """What is no account's: the fund, buyers' gains, and fees where there is no fund."""
    fees = math.fsum(event["fee"] for event in history.events if event["event"] == "liquidation")
    if history.fund is None:
        initial = ruleset.liquidation_or_default.fund
        start = 0.0 if initial is msgspec.UNSET else InsuranceFund.of_rules(initial).balance
        return start + fees + history.discounts
    return history.fund.balance + history.discounts


@settings(max_examples=30, deadline=None)
@given(VENUES, ROWS, PATHS, st.data())
def test_more_closes_give_the_same_events_and_more(
    ruleset: RuleSet, rows: list[tuple[float, float]], returns: list[float], data: st.DataObject
) -> None:
    path = views(prices_of(returns))
    cut = data.draw(st.integers(1, len(path)))
    whole = replay_life_cycle(accounts_of(rows), path, lambda time: ruleset)
    part = replay_life_cycle(accounts_of(rows), path[:cut], lambda time: ruleset)
    recorded = [canonical_bytes(event) for event in whole.events]
    assert recorded[: len(part.events)] == [canonical_bytes(event) for event in part.events]


@settings(max_examples=30, deadline=None)
@given(VENUES, ROWS, PATHS)
def test_without_default_resources_shortfalls_are_summed_alone(
    ruleset: RuleSet, rows: list[tuple[float, float]], returns: list[float]
) -> None:
    path = views(prices_of(returns))
    bare = msgspec.structs.replace(
        ruleset, liquidation=LiquidationRules(ruleset.liquidation_or_default.partial)
    )
    found = replay_life_cycle(
        accounts_of(rows), path, lambda time: ruleset, default_resources=False
    )
    plain = replay_life_cycle(accounts_of(rows), path, lambda time: bare)

    def events(history: LifeCycleHistory) -> list[dict[str, Any]]:
        return [
            {**event, "ruleset_sha256": None}
            for event in history.events
            if event["event"] in ("transition", "liquidation")
        ]

    assert events(found) == events(plain)
    assert found.shortfall == plain.shortfall == pytest.approx(plain.uncovered)
    assert {event["event"] for event in found.events} <= {"transition", "liquidation"}


def test_a_winner_that_is_deleveraged_is_advanced_at_the_same_close() -> None:
    """A short that has drawn its profit is healthy at 93, and below its margin once it gave up
    4.8 on half of its position."""
    ruleset = venue(deleverage=DeleverageRules("account"))
    book = Book.of(
        [
            Account("long", 2.2, (Position("BTCUSDT-PERP", 1.0, 100.0),)),
            Account("short", -8.8, (Position("BTCUSDT-PERP", -2.0, 100.0),)),
        ]
    )
    history = replay_life_cycle(
        make_history([AccountUpdates(0, book)]), views([93.0]), lambda time: ruleset
    )
    *_, shortfall, deleverage, advanced = history.events
    assert (shortfall["account_id"], shortfall["deleveraged"]) == ("long", pytest.approx(4.8))
    # The long is bankrupt at 97.8: the short buys back there instead of at 93.
    assert (deleverage["account_id"], deleverage["quantity"]) == ("short", -1.0)
    assert deleverage["price"] == pytest.approx(97.8)
    assert history.deleveraged == history.shortfall
    assert (advanced["account_id"], advanced["reason"]) == ("short", "stop_out")
    assert advanced["figures"]["equity"] == pytest.approx(14.0 - 8.8 - 4.8)
    assert advanced["figures"]["gross_notional"] == pytest.approx(93.0)


def test_an_account_is_sold_at_auction_where_the_rules_have_one() -> None:
    """Derive: 95% of the worth is asked at first, and f_max of everything is sold."""
    ruleset = venue(auction=AUCTION, fund=FundRules())
    history = replay_life_cycle(
        accounts_of([(20.0, 10.0)]), views([100.0, 96.5]), lambda time: ruleset
    )
    (sale,) = [event for event in history.events if event["event"] == "liquidation"]
    # Worth 15 beside a margin of 19.3: BM = 15 - 1.15 * 19.3, before the fee.
    worth, margin = 15.0, 19.3
    fee = 0.1 * worth * min(1.0, (1.15 * margin - worth) / (1.15 * margin))
    left = worth - fee
    share = (1.15 * margin - left) / (1.15 * margin - left + 0.95 * left)
    assert sale["fee"] == pytest.approx(fee)
    assert sale["auction"]["share"] == pytest.approx(share)
    assert sale["auction"]["discount"] == pytest.approx(0.05 * share * left)
    assert sale["closed"] == [{"instrument": "BTCUSDT-PERP", "share": sale["auction"]["share"]}]
    assert sale["restored"]
    assert history.fund is not None
    assert history.fund.balance == sale["fee"]
    assert history.events[-1]["reason"] == "reinstated"
    bankrupt = replay_life_cycle(
        accounts_of([(20.0, 10.0)]), views([100.0, 94.0]), lambda time: ruleset
    )
    (sale,) = [event for event in bankrupt.events if event["event"] == "liquidation"]
    assert not sale["auction"]["solvent"]
    assert sale["auction"]["price"] == pytest.approx(-10.0)
    assert bankrupt.uncovered == bankrupt.shortfall == pytest.approx(10.0)


def test_a_debt_without_positions_is_owed_to_fund_and_others_alone() -> None:
    ruleset = venue(fund=FundRules(balance=4.0), deleverage=DeleverageRules("account"))
    book = Book.of(
        [
            Account("debtor", -10.0),
            Account("short", 50.0, (Position("BTCUSDT-PERP", -1.0, 120.0),)),
        ]
    )
    history = replay_life_cycle(
        make_history([AccountUpdates(0, book)]), views([100.0]), lambda time: ruleset
    )
    (event,) = [event for event in history.events if event["event"] == "shortfall"]
    assert (event["fund_paid"], event["deleveraged"], event["uncovered"]) == (4.0, 0.0, 6.0)
    assert event["fund_balance"] == 0.0
