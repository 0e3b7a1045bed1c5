"""The engine over history: calls and steps by hand, conserved money, and a walk in two parts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from enforcement.history.walk import HistoryWalk
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes
from ledger.records import Entry
from margin.book.requirement import compute_requirement
from margin.life_cycle.states import State
from margin.rules.enforcement import CallTypeRules, EnforcementRules
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.liquidation import (
    AuctionRules,
    DeleverageRules,
    FundRules,
    LiquidationRules,
    LossSharingRules,
    PartialRules,
)
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.account_files import AccountHistory, Event, make_history
from market.accounts.book import Account, Book, Position
from market.core.clock import HOUR, INTERVALS
from market.sources.base import AccountUpdates

BTC = "BTCUSDT-PERP"
AUCTION = AuctionRules(0.95, 0.7, 900.0, 43_200.0, 3_600.0, buffer=0.15, fee_rate=0.1)


@dataclass(frozen=True)
class Close:
    """The part of a market snapshot that the walk reads."""

    market: MarketView
    interval: Any = INTERVALS["1h"]

    @property
    def as_of(self) -> int:
        return self.market.as_of

    def view(self) -> MarketView:
        return self.market


def snapshots(prices: Sequence[float], first: int = 0) -> list[MarketSnapshot]:
    unknown = np.full(1, np.nan)
    return [
        cast(
            MarketSnapshot,
            Close(
                MarketView(
                    as_of=(first + hour) * HOUR,
                    symbols=("BTCUSDT",),
                    mark=np.array([price]),
                    age_hours=unknown,
                    volatility=np.array([0.005]),
                    adv=np.array([1e6]),
                    correlation=np.full((1, 1), np.nan),
                )
            ),
        )
        for hour, price in enumerate(prices)
    ]


def calling(**partial: Any) -> RuleSet:
    """Calls on the maintenance margin alone, met within two hours; stop-out at a quarter."""
    return msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        life_cycle=LifeCycleRules(call_hours=2.0, stop_out_share=0.25),
        enforcement=EnforcementRules(maintenance_margin=CallTypeRules(call_hours=2.0)),
        liquidation=LiquidationRules(PartialRules(**partial)),
    )


def long(cash: float, entry: float | None = 100.0) -> AccountHistory:
    """One account, 100 BTC perpetuals; its margin is 2%."""
    account = Account("a", cash, (Position(BTC, 100.0, entry),))
    return make_history([AccountUpdates(0, Book.of([account]))])


def walked(history: AccountHistory, prices: Sequence[float], rules: RuleSet) -> HistoryWalk:
    walk = HistoryWalk(history)
    for snapshot in snapshots(prices):
        walk.advance_to(snapshot, rules)
    return walk


def told(walk: HistoryWalk) -> list[str]:
    """Events of calls and settlements, and what was filled."""
    names = []
    for entry in walk.entries:
        if entry.kind == "instruction":
            if entry.payload["event"] == "filled":
                names.append(entry.payload["kind"])
        else:
            names.append(str(entry.payload.get("event", entry.kind)))
    return names


def calls(walk: HistoryWalk) -> list[dict[str, Any]]:
    return [entry.payload for entry in walk.entries if entry.kind == "call"]


def test_a_missed_call_ends_in_a_step_that_restores_the_buffer() -> None:
    # Margin 198 at 99; equity 290 - 100 = 190 is called, and two hours later a share is closed.
    done = walked(long(290.0), [100.0, 99.0, 99.0, 99.0], calling())
    assert told(done) == [
        "opened",
        "deadline_missed",
        "grace_ended",
        "cancel_orders",
        "reduce_only",
        "close",
        "reinstated",
    ]
    opened, *_, ended = calls(done)
    assert opened["types"] == ["maintenance_margin"]
    assert opened["outstanding"] == pytest.approx(1.05 * 198.0 - 190.0)
    # Equity stays 190 and carries 190 / (0.02 * 1.1) of notional.
    assert done.tally.notional == pytest.approx(9_900.0 - 190.0 / 0.022)
    assert ended["figures"]["equity"] == pytest.approx(190.0)
    assert ended["figures"]["gross_notional"] == pytest.approx(190.0 / 0.022)
    freed = {cure["source"]: cure["amount"] for cure in ended["cures"]}
    # The step frees maintenance margin, and with it what the rule floor asks on top.
    assert freed["trade"] >= 198.0 - 190.0 / 1.1
    assert State(done.states.state[0]) == State.MET
    assert done.calls == {}


def test_an_account_that_may_only_reduce_is_told_once_and_answered_at_once() -> None:
    rules = msgspec.structs.replace(
        calling(),
        enforcement=EnforcementRules(
            maintenance_margin=CallTypeRules(call_hours=2.0, grace_hours=2.0)
        ),
    )
    done = walked(long(290.0), [100.0, *[99.0] * 6], rules)
    assert told(done) == [
        "opened",
        "deadline_missed",
        "cancel_orders",
        "reduce_only",
        "grace_ended",
        "close",
        "reinstated",
    ]
    states = {entry.payload["event"] for entry in done.entries if entry.kind == "instruction"}
    assert states == {"issued", "filled"}


def test_calls_of_history_count_as_acknowledged_when_they_open() -> None:
    waiting = EnforcementRules(
        maintenance_margin=CallTypeRules(call_hours=2.0),
        deadlines_from="acknowledgement",
        acknowledgement_hours=10.0,
    )
    rules = msgspec.structs.replace(calling(), enforcement=waiting)
    prices = [100.0, 99.0, 99.0, 99.0]
    plain, done = (walked(long(290.0), prices, each) for each in (calling(), rules))
    assert told(done) == told(plain)
    assert [one["deadline"] for one in calls(done)] == [one["deadline"] for one in calls(plain)]
    assert {one["ruleset_sha256"] for one in calls(done)} == {rules.sha256}


def test_what_was_closed_stays_closed_and_the_rest_moves_with_the_market() -> None:
    done = walked(long(290.0), [100.0, 99.0, 99.0, 99.0, 98.0], calling())
    left = 190.0 / 0.022 / 99.0
    called = calls(done)[-1]
    assert called["event"] == "opened"
    assert called["figures"]["equity"] == pytest.approx(190.0 - left)


def test_one_step_at_each_close_and_a_ramp_from_the_start() -> None:
    rules = calling(ramp_start=0.1, ramp_seconds=4 * 3_600.0)
    done = walked(long(290.0), [100.0, 99.0, 99.0, 99.0, 99.0], rules)
    steps = [
        entry.payload["parameters"]["step"]
        for entry in done.entries
        if entry.payload.get("kind") == "close" and entry.payload["event"] == "issued"
    ]
    # Short by 8: a tenth is freed at once, and an hour later 0.1 + 1/4 of what is left.
    assert [step["headroom_after"] for step in steps] == pytest.approx(
        [0.9 * -8.0, 0.65 * 0.9 * -8.0]
    )


def test_a_deposit_meets_a_call_and_is_named_as_its_cure() -> None:
    walk = HistoryWalk(long(290.0))
    rules, path = calling(), snapshots([100.0, 99.0, 99.0, 99.0, 99.0])
    for snapshot in path[:2]:
        walk.advance_to(snapshot, rules)
    (call,) = walk.calls.values()
    walk.deposit("a", 10.0)
    walk.advance_to(path[2], rules)
    assert [one["event"] for one in calls(walk)] == ["opened", "partly_met"]
    walk.deposit("a", call.outstanding - 9.99)
    walk.advance_to(path[3], rules)
    met = calls(walk)[-1]
    assert (met["event"], met["reason"]) == ("met", "call_met")
    assert met["cures"][0]["source"] == "deposit"
    assert met["cures"][0]["amount"] == pytest.approx(call.outstanding - 9.99)


def test_a_gap_through_bankruptcy_settles_the_debt() -> None:
    done = walked(long(290.0), [100.0, 95.0, 120.0], calling())
    assert told(done)[-2:] == ["bad_debt", "default_resources"]
    assert done.resources.shortfall == pytest.approx(210.0)
    assert done.resources.uncovered == pytest.approx(210.0)
    assert State(done.states.state[0]) == State.BAD_DEBT
    # It is not margined again, whatever the market does.
    assert done.account("a") is None
    funded = msgspec.structs.replace(
        calling(), liquidation=LiquidationRules(fund=FundRules(balance=1_000.0))
    )
    paid = walked(long(290.0), [100.0, 95.0, 120.0], funded)
    assert told(paid)[-3:] == ["bad_debt", "default_resources", "closed"]
    assert paid.resources.fund is not None
    assert paid.resources.fund.balance == pytest.approx(790.0)
    assert State(paid.states.state[0]) == State.CLOSED


def test_two_debts_of_one_close_do_not_take_the_same_profit() -> None:
    """The winner's 0.9 of profit cannot be given up twice."""
    rules = venue(deleverage=DeleverageRules("profit_leverage"))
    accounts = [
        Account("a", 3.0, (Position(BTC, 1.0, 100.0),)),
        Account("b", 3.0, (Position(BTC, 1.0, 100.0),)),
        Account("w", 50.0, (Position(BTC, -1.0, 100.0),)),
    ]
    done = walked(make_history([AccountUpdates(0, Book.of(accounts))]), [100.0, 90.0], rules)
    payloads = [entry.payload for entry in done.entries if entry.kind == "default_resources"]
    assert [one["account_id"] for one in payloads] == ["a", "b"]
    assert payloads[0]["deleveraged"] == pytest.approx(7.0)
    assert payloads[1]["deleveraged"] == 0.0
    winner = done.account("w")
    assert winner is not None
    assert winner.positions == ()
    assert winner.cash == pytest.approx(50.0 + 10.0 - 7.0)


def test_a_new_snapshot_replaces_what_the_walk_did_and_closed_accounts_leave() -> None:
    first = Account("a", 290.0, (Position(BTC, 100.0, 100.0),))
    second = Account("a", 1_290.0, (Position(BTC, 100.0, 100.0),))
    history = make_history(
        [AccountUpdates(0, Book.of([first])), AccountUpdates(2 * HOUR, Book.of([second]))]
    )
    done = walked(history, [100.0, 99.0, 99.0], calling())
    assert told(done) == ["opened", "met"]
    assert [cure["source"] for cure in calls(done)[-1]["cures"]] == ["deposit"]
    left = make_history([AccountUpdates(0, Book.of([first]))], [Event(HOUR, "a", "closed")])
    assert walked(left, [100.0, 50.0], calling()).entries == []


def test_positions_without_an_entry_price_enter_at_the_first_mark() -> None:
    path = [100.0, 99.0, 99.0, 98.5]
    known, unknown = (walked(long(290.0, entry), path, calling()) for entry in (100.0, None))
    assert recorded(unknown.entries) == recorded(known.entries)
    late = walked(long(290.0, None), [math.nan, 100.0, 99.0], calling())
    assert late.tally.unknown == 1
    assert told(late) == ["opened"]
    assert "no price" in late.tally.problems["a"]


def recorded(entries: Sequence[Entry]) -> list[bytes]:
    return [canonical_bytes([one.kind, one.id, one.as_of, one.payload]) for one in entries]


def venue(**tables: Any) -> RuleSet:
    return msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        life_cycle=LifeCycleRules(stop_out_share=1.0, call_hours=0.0, cure_share=0.0),
        liquidation=LiquidationRules(**tables),
    )


VENUES = st.builds(
    venue,
    partial=st.builds(
        PartialRules,
        order=st.sampled_from(["pro_rata", "largest_first"]),
        fee_rate=st.sampled_from([0.0, 0.002]),
    ),
    backstop_share=st.sampled_from([0.0, 0.5]),
    price_impact=st.sampled_from(["none", "depth"]),
    auction=st.sampled_from([AUCTION, msgspec.UNSET]),
    fund=st.builds(
        FundRules,
        balance=st.sampled_from([0.0, 50.0, 1e6]),
        max_draw=st.sampled_from([20.0, 1e6]),
    )
    | st.just(msgspec.UNSET),
    deleverage=st.builds(
        DeleverageRules, ranking=st.sampled_from(["profit_leverage", "price_leverage", "account"])
    )
    | st.just(msgspec.UNSET),
    loss_sharing=st.builds(
        LossSharingRules, basis=st.sampled_from(["profit", "equity", "open_interest"])
    )
    | st.just(msgspec.UNSET),
) | st.just(calling(fee_rate=0.001))
ROWS = st.lists(
    st.tuples(st.floats(3.0, 45.0), st.sampled_from([-20.0, -5.0, -1.0, 1.0, 5.0, 20.0])),
    min_size=2,
    max_size=8,
)
PATHS = st.lists(st.floats(-0.12, 0.12), min_size=1, max_size=6)


def accounts_of(rows: list[tuple[float, float]]) -> AccountHistory:
    """Accounts as (leverage, signed quantity), entered at 100."""
    accounts = [
        Account(f"a{k:02d}", abs(size) * 100.0 / leverage, (Position(BTC, size, 100.0),))
        for k, (leverage, size) in enumerate(rows)
    ]
    return make_history([AccountUpdates(0, Book.of(accounts))])


def prices_of(returns: list[float]) -> list[float]:
    return [100.0, *(100.0 * np.exp(np.cumsum(returns))).tolist()]


@settings(max_examples=80, deadline=None)
@given(VENUES, ROWS, PATHS)
def test_money_is_conserved_at_every_close(
    rules: RuleSet, rows: list[tuple[float, float]], returns: list[float]
) -> None:
    """Accounts, fund, venue, buyers and backstop hold together what they held before the close,
    at its marks; what nobody bore is owed."""
    history = accounts_of(rows)
    walk = HistoryWalk(history)
    names = history.account_ids

    def worth(view: MarketView, members: dict[str, Account]) -> float:
        book = Book.of(list(members.values()))
        return math.fsum(compute_requirement(book, view, rules).equity.tolist())

    def members() -> dict[str, Account]:
        found = {name: walk.account(name) for name in names}
        return {name: account for name, account in found.items() if account is not None}

    def outside() -> float:
        resources = walk.resources
        fund = 0.0 if resources.fund is None else resources.fund.balance - start
        fees = resources.fees if resources.fund is None else 0.0
        return fund + fees + resources.impact + resources.discounts + resources.taken_over

    table = rules.liquidation_or_default.fund
    start = 0.0
    if table is not msgspec.UNSET and table.balance is not msgspec.UNSET:
        start = table.balance
    held: dict[str, Account] | None = None
    for snapshot in snapshots(prices_of(returns)):
        view = snapshot.view()
        if held is None:
            opened = compute_requirement(history.book_of(np.arange(len(names))), view, rules)
            before = math.fsum(opened.equity.tolist())
        else:
            before = worth(view, held)
        others, uncovered = outside(), walk.resources.uncovered
        walk.advance_to(snapshot, rules)
        now = members()
        # An account that was closed with something left takes it along.
        gone = math.fsum(
            entry.payload["figures"]["equity"]
            for entry in walk.entries
            if entry.kind == "call"
            and entry.as_of == view.as_of
            and entry.payload["event"] == "closed"
            and entry.payload["account_id"] not in now
        )
        after = worth(view, now) + gone + outside() - others
        assert after - (walk.resources.uncovered - uncovered) == pytest.approx(before, abs=1e-6)
        assert walk.resources.fund is None or walk.resources.fund.balance >= 0.0
        held = now
    resources = walk.resources
    paid = 0.0 if resources.fund is None else resources.fund.paid
    assert resources.shortfall == pytest.approx(
        paid + resources.deleveraged + resources.shared + resources.uncovered, abs=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(VENUES, ROWS, PATHS, st.integers(0, 6))
def test_a_walk_in_two_parts_is_the_walk_at_once(
    rules: RuleSet, rows: list[tuple[float, float]], returns: list[float], cut: int
) -> None:
    history, path = accounts_of(rows), snapshots(prices_of(returns))
    at_once = HistoryWalk(history)
    for snapshot in path:
        at_once.advance_to(snapshot, rules)
    first = HistoryWalk(history)
    for snapshot in path[:cut]:
        first.advance_to(snapshot, rules)
    content = json.loads(canonical_bytes(first.to_content()))
    second = HistoryWalk.of_content(history, content)
    for snapshot in path[cut:]:
        second.advance_to(snapshot, rules)
    assert recorded([*first.entries, *second.entries]) == recorded(at_once.entries)
    assert second.to_content() == at_once.to_content()
    ids = [entry.id for entry in at_once.entries]
    assert len(ids) == len(set(ids))


def test_walks_do_not_depend_on_other_accounts() -> None:
    rng = np.random.default_rng(5)
    prices = (100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, 60)))).tolist()
    accounts = [
        Account(
            f"a{k:02d}",
            float(rng.uniform(100.0, 900.0)),
            (Position(BTC, float(rng.choice([-1.0, 1.0]) * 100.0)),),
        )
        for k in range(20)
    ]

    def entries(of: Sequence[Account]) -> list[bytes]:
        return recorded(
            walked(make_history([AccountUpdates(0, Book.of(of))]), prices, calling()).entries
        )

    together = entries(accounts)
    assert len(together) > 40
    assert sorted(together) == sorted(one for account in accounts for one in entries([account]))
