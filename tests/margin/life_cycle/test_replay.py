"""Replay of a book over prices: calls, liquidation steps and what stays of an account."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ledger.canonical import canonical_bytes
from margin.life_cycle.replay import LifeCycleHistory, replay_life_cycle
from margin.life_cycle.states import State
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.liquidation import LiquidationRules, PartialRules
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.account_files import AccountHistory, Event, make_history
from market.accounts.book import Account, Book, Position
from market.core.clock import HOUR
from market.sources.base import AccountUpdates


def rules(**partial: Any) -> Callable[[int], RuleSet]:
    return always(
        msgspec.structs.replace(
            load_ruleset("linear-tiers"),
            life_cycle=LifeCycleRules(call_hours=2.0, stop_out_share=0.25),
            liquidation=LiquidationRules(PartialRules(**partial)),
        )
    )


def always(ruleset: RuleSet) -> Callable[[int], RuleSet]:
    return lambda time: ruleset


def views(prices: Sequence[float]) -> list[MarketView]:
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


def long(cash: float, quantity: float = 100.0, entry: float | None = 100.0) -> AccountHistory:
    """One account, `quantity` BTC perpetuals from the first hour on; its margin is 2%."""
    positions = (Position("BTCUSDT-PERP", quantity, entry),)
    return make_history([AccountUpdates(0, Book.of([Account("a", cash, positions)]))])


def reasons(history: LifeCycleHistory) -> list[str]:
    return [event.get("reason", event["event"]) for event in history.events]


def test_a_missed_call_ends_in_a_step_that_restores_the_buffer() -> None:
    # Margin 198 at 99; equity 290 - 100 = 190 is called, and two hours later a share is closed.
    done = replay_life_cycle(long(290.0), views([100.0, 99.0, 99.0, 99.0]), rules())
    assert reasons(done) == [
        "margin_call",
        "deadline_missed",
        "grace_ended",
        "liquidation",
        "reinstated",
    ]
    step = done.events[3]
    assert step["time"] == 3 * HOUR
    # Equity stays 190 and carries 190 / (0.02 * 1.1) of notional.
    assert step["notional"] == pytest.approx(9_900.0 - 190.0 / 0.022)
    cured = done.events[4]["figures"]
    assert cured["equity"] == pytest.approx(190.0)
    assert cured["gross_notional"] == pytest.approx(190.0 / 0.022)
    assert State(done.states.state[0]) == State.MET


def test_what_was_closed_stays_closed_and_the_rest_moves_with_the_market() -> None:
    done = replay_life_cycle(long(290.0), views([100.0, 99.0, 99.0, 99.0, 98.0]), rules())
    left = 190.0 / 0.022 / 99.0
    called = done.events[-1]
    assert called["reason"] == "margin_call"
    assert called["figures"]["equity"] == pytest.approx(190.0 - left)


def test_a_fee_is_paid_by_the_account() -> None:
    done = replay_life_cycle(long(290.0), views([100.0, 99.0, 99.0, 99.0]), rules(fee_rate=0.001))
    step = done.events[3]
    assert step["fee"] == pytest.approx(0.001 * step["notional"])
    assert done.events[4]["figures"]["equity"] == pytest.approx(190.0 - step["fee"])


def test_a_ramp_runs_from_the_start_of_the_liquidation() -> None:
    path = views([100.0, 99.0, 99.0, 99.0, 99.0])
    done = replay_life_cycle(long(290.0), path, rules(ramp_start=0.1, ramp_seconds=4 * 3_600.0))
    first, second = (event for event in done.events if event["event"] == "liquidation")
    # Short by 8: a tenth is freed at once, and an hour later 0.1 + 1/4 of what is left.
    assert first["headroom_after"] == pytest.approx(0.9 * -8.0)
    assert second["headroom_after"] == pytest.approx(0.65 * 0.9 * -8.0)


def test_a_second_step_within_the_cooldown_closes_everything() -> None:
    share = {"method": "share", "share": 0.2, "share_above": 1_000.0}
    path = views([100.0, 99.0, 99.0, 99.0, 99.0])
    done = replay_life_cycle(long(160.0), path, rules(cooldown_seconds=7_200.0, **share))
    steps = [event for event in done.events if event["event"] == "liquidation"]
    assert [step["closed"][0]["share"] for step in steps] == [0.2, 1.0]


def test_a_gap_through_bankruptcy_closes_the_account_and_counts_the_shortfall() -> None:
    done = replay_life_cycle(long(290.0), views([100.0, 95.0, 120.0]), rules())
    assert reasons(done) == ["stop_out", "liquidation", "bankrupt", "shortfall"]
    assert done.shortfall == pytest.approx(210.0)
    assert State(done.states.state[0]) == State.BAD_DEBT
    # It is not margined again, whatever the market does.
    assert done.valuations == 2


def test_a_new_snapshot_replaces_what_the_replay_did() -> None:
    first = Account("a", 290.0, (Position("BTCUSDT-PERP", 100.0, 100.0),))
    second = Account("a", 1_290.0, (Position("BTCUSDT-PERP", 100.0, 100.0),))
    history = make_history(
        [AccountUpdates(0, Book.of([first])), AccountUpdates(2 * HOUR, Book.of([second]))]
    )
    done = replay_life_cycle(history, views([100.0, 99.0, 99.0]), rules())
    assert reasons(done) == ["margin_call", "call_met", "reinstated"]


def test_positions_without_an_entry_price_enter_at_the_first_mark() -> None:
    with_entry = replay_life_cycle(
        long(290.0, entry=100.0), views([100.0, 99.0, 99.0, 98.5]), rules()
    )
    without_entry = replay_life_cycle(
        long(290.0, entry=None), views([100.0, 99.0, 99.0, 98.5]), rules()
    )
    assert without_entry.events == with_entry.events
    late = replay_life_cycle(long(290.0, entry=None), views([math.nan, 100.0, 99.0]), rules())
    assert late.unknown == 1
    assert reasons(late) == ["margin_call"]
    assert "no price" in late.problems["a"]


def test_closed_accounts_of_the_files_leave() -> None:
    account = Account("a", 290.0, (Position("BTCUSDT-PERP", 100.0, 100.0),))
    history = make_history([AccountUpdates(0, Book.of([account]))], [Event(HOUR, "a", "closed")])
    done = replay_life_cycle(history, views([100.0, 50.0]), rules())
    assert (done.events, done.valuations) == ([], 1)


def test_the_add_on_counts_where_the_call_level_is_the_total() -> None:
    ruleset = msgspec.structs.replace(
        rules()(0), life_cycle=LifeCycleRules(call_level="total", warning_share=0.0, calm_share=0.0)
    )
    done = replay_life_cycle(long(230.0), views([100.0]), always(ruleset))
    figures = done.events[0]["figures"]
    assert done.events[0]["reason"] == "margin_call"
    assert figures["add_on"] > 0.0
    assert figures["call_level"] == figures["maintenance_margin"] + figures["add_on"]


def test_replays_are_equal_to_the_last_bit_and_do_not_depend_on_other_accounts() -> None:
    rng = np.random.default_rng(5)
    prices = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, 60)))
    accounts = [
        Account(
            f"a{k:02d}",
            float(rng.uniform(100.0, 900.0)),
            (Position("BTCUSDT-PERP", float(rng.choice([-1.0, 1.0]) * 100.0), None),),
        )
        for k in range(20)
    ]

    def history(of: Sequence[Account]) -> list[bytes]:
        done = replay_life_cycle(
            make_history([AccountUpdates(0, Book.of(of))]), views(prices.tolist()), rules()
        )
        return [canonical_bytes(event) for event in done.events]

    together = history(accounts)
    assert together == history(accounts)
    assert len(together) > 40
    alone = [event for account in accounts for event in history([account])]
    assert sorted(alone) == sorted(together)


@pytest.mark.realdata
def test_longs_through_the_fifth_of_august(data_dir: Path) -> None:
    """BTC fell by a sixth from 4 to 5 August 2024: what happens to a long of each leverage."""
    path = data_dir / "ohlcv_1h_binance_spot" / "BTCUSDT.parquet"
    bars = pq.read_table(path, columns=["ts", "close"]).to_pandas()
    begin, end = pd.Timestamp("2024-08-04", tz="UTC"), pd.Timestamp("2024-08-06", tz="UTC")
    prices = bars[(bars["ts"] >= begin) & (bars["ts"] < end)]["close"].tolist()
    assert len(prices) == 48
    leverages = (2, 5, 10, 20)
    accounts = [
        Account(f"{leverage:02d}x", 1_000.0, (Position("BTCUSDT-PERP", size, prices[0]),))
        for leverage in leverages
        if (size := 1_000.0 * leverage / prices[0])
    ]
    done = replay_life_cycle(
        make_history([AccountUpdates(0, Book.of(accounts))]), views(prices), rules()
    )
    ends = dict(zip(leverages, map(State, done.states.state.tolist()), strict=True))
    lowest = min(prices) / prices[0] - 1.0
    for leverage in leverages:
        causes = {
            event["reason"]
            for event in done.events
            if event["account_id"] == f"{leverage:02d}x" and event["event"] == "transition"
        }
        # Equity left at the lowest close, beside the maintenance margin there.
        equity, margin = 1.0 + leverage * lowest, 0.02 * leverage * (1.0 + lowest)
        assert (equity < margin) == bool(causes & {"margin_call", "stop_out"}), leverage
    assert ends[2] == State.HEALTHY
    assert "stop_out" in {e.get("reason") for e in done.events if e["account_id"] == "20x"}
