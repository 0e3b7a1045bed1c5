"""One decision: bounded by the rules, alone or in a book, with or without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from decisions.book_scoring import PreviousAddOn
from decisions.decision import decide
from decisions.messages import AccountProblem, Decision
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Balance, Position
from market.core.clock import HOUR
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

Floats = npt.NDArray[np.float64]


class BrokenModel(Forecaster):
    """Answers NaN for every account."""

    def probability(self, features: Floats) -> Floats:
        return np.full((len(features), len(self.horizons)), np.nan)


@pytest.fixture(scope="module")
def forecaster(made_bundles: tuple[Path, str]) -> Forecaster:
    root, sha = made_bundles
    return Forecaster(load_bundle(root / sha))


def at(market: Any, row: int = -1, later: int = 0) -> MarketSnapshot:
    as_of = int(market.features.closes[row]) + later
    return MarketSnapshot.of_history(market.history, market.features, as_of)


def book(market: Any, n: int = 30) -> list[Account]:
    """Accounts of leverage 1 to 30 in one to three coins, some with collateral and debts."""
    rng = np.random.default_rng(8)
    mark, symbols = market.history.mark[-1], market.panel.symbols
    accounts = []
    for i in range(n):
        coins = rng.choice(len(symbols), rng.integers(1, 4), replace=False)
        notional = 1_000.0 * np.exp(rng.uniform(0.0, np.log(30.0))) / len(coins)
        positions = tuple(
            Position(f"{symbols[s]}-PERP", float(rng.choice([-1, 1]) * notional / mark[s]))
            for s in np.sort(coins)
        )
        collateral = (Balance("USDT", float(rng.normal(0.0, 50.0))),) if i % 3 == 0 else ()
        accounts.append(Account(f"acc-{i}", 1_000.0, positions, collateral))
    return accounts


def decisions(
    accounts: Sequence[Account],
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    model: Forecaster | None,
    previous: dict[str, PreviousAddOn] | None = None,
    **options: Any,
) -> list[Decision]:
    answers = decide(accounts, snapshot, ruleset, model, previous or {}, **options)
    assert not any(isinstance(answer, AccountProblem) for answer in answers)
    return answers  # type: ignore[return-value]


def encoded(decision: Decision) -> bytes:
    return json.dumps(msgspec.to_builtins(decision, str_keys=True), allow_nan=False).encode()


def assert_fallback(decision: Decision, reason: str) -> None:
    assert decision.degraded is not None
    assert reason in decision.degraded
    assert decision.binding == "fallback"
    assert decision.add_on == decision.floor > 0.0
    assert decision.probability is None
    assert decision.model_add_on is None


def test_add_on_is_between_floor_and_cap(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    found = decisions(book(market), at(market), ruleset, forecaster)
    assert {"model", "cap"} <= {decision.binding for decision in found}
    for decision in found:
        assert 0.0 < decision.floor <= decision.add_on <= max(decision.floor, decision.cap)
        assert decision.degraded is None
        assert decision.total_requirement == pytest.approx(
            decision.maintenance_margin + decision.add_on
        )
        assert decision.probability is not None
        assert list(decision.probability) == ["1", "8", "24"]
        assert sorted(decision.probability.values()) == list(decision.probability.values())


@pytest.mark.parametrize("amount", [0.0, 1.0, 1e6])
def test_previous_add_on_never_leads_out_of_the_bounds(
    market: Any, ruleset: RuleSet, forecaster: Forecaster, amount: float
) -> None:
    snapshot = at(market)
    accounts = book(market)
    before = {a.account_id: PreviousAddOn(amount, snapshot.as_of - HOUR) for a in accounts}
    for decision in decisions(accounts, snapshot, ruleset, forecaster, before):
        assert decision.floor <= decision.add_on <= max(decision.floor, decision.cap)


def test_account_alone_equals_itself_in_a_book_to_the_last_bit(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    accounts, snapshot = book(market), at(market)
    before = {"acc-3": PreviousAddOn(500.0, snapshot.as_of - 3 * HOUR)}
    together = decisions(accounts, snapshot, ruleset, forecaster, before)
    backwards = decisions(accounts[::-1], snapshot, ruleset, forecaster, before)[::-1]
    for account, one, other in zip(accounts, together, backwards, strict=True):
        (alone,) = decisions([account], snapshot, ruleset, forecaster, before)
        assert encoded(alone) == encoded(one) == encoded(other)


def test_no_model_gives_the_rule_floor_marked_degraded(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    with_model = decisions(book(market), at(market), ruleset, forecaster)
    without = decisions(book(market), at(market), ruleset, None, no_model="no model: removed")
    for decision, full in zip(without, with_model, strict=True):
        assert_fallback(decision, "no model: removed")
        assert decision.model is None
        assert decision.floor == full.floor


def test_stale_market_gives_the_rule_floor_marked_degraded(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    accounts = book(market, 5)
    fresh = decisions(accounts, at(market, later=2 * HOUR), ruleset, forecaster)
    stale = decisions(accounts, at(market, later=3 * HOUR), ruleset, forecaster)
    for decision, before in zip(stale, fresh, strict=True):
        assert before.degraded is None
        assert_fallback(decision, "stale")
        assert decision.floor > before.floor  # the price risk of old data is held too


def test_warm_up_gives_the_rule_floor_marked_degraded(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    for decision in decisions(book(market, 5), at(market, 100), ruleset, forecaster):
        assert_fallback(decision, "warm-up")


def test_one_stale_symbol_degrades_only_its_own_accounts(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    snapshot = at(market)
    age = snapshot.at_close.age.copy()
    age[0, 0] += 5.0
    snapshot = replace(snapshot, at_close=replace(snapshot.at_close, age=age))
    stale, fresh = (f"{symbol}-PERP" for symbol in market.panel.symbols[:2])
    found = decisions(
        [
            Account("stale", 5_000.0, (Position(stale, 1.0),)),
            Account("fresh", 5_000.0, (Position(fresh, 1.0),)),
        ],
        snapshot,
        ruleset,
        forecaster,
    )
    assert_fallback(found[0], market.panel.symbols[0])
    assert found[1].degraded is None


def test_nan_from_the_model_gives_the_rule_floor_never_zero(
    market: Any, ruleset: RuleSet, made_bundles: tuple[Path, str]
) -> None:
    root, sha = made_bundles
    for decision in decisions(
        book(market, 5), at(market), ruleset, BrokenModel(load_bundle(root / sha))
    ):
        assert_fallback(decision, "no number")
        assert decision.model == sha


def test_after_the_deposit_nothing_more_is_required(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    accounts, snapshot = book(market), at(market)
    first = decisions(accounts, snapshot, ruleset, forecaster)
    assert any(decision.deposit_to_meet > 0.0 for decision in first)
    paid = [
        replace(account, cash=account.cash + decision.deposit_to_meet)
        for account, decision in zip(accounts, first, strict=True)
    ]
    before = {d.account_id: PreviousAddOn(d.add_on, snapshot.as_of) for d in first}
    for again in (
        decisions(paid, snapshot, ruleset, forecaster),
        decisions(paid, snapshot, ruleset, forecaster, before),
    ):
        for decision, asked in zip(again, first, strict=True):
            assert decision.add_on == pytest.approx(asked.add_on, rel=1e-9)
            # A cent is the resolution of a deposit.
            assert decision.deposit_to_meet <= 0.01


def test_pace_is_for_the_market_not_for_the_accounts_own_trades(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    """Scored flat first, or small first, a book asks for what it asks when seen fresh."""
    snapshot = at(market)
    book_now = Account("a", 1_000.0, (Position("BTCUSDT-PERP", 0.05),))
    (fresh,) = decisions([book_now], snapshot, ruleset, forecaster)
    assert fresh.binding == "model"
    flat = PreviousAddOn(0.0, snapshot.as_of, 0.0, {})
    (after_flat,) = decisions([book_now], snapshot, ruleset, forecaster, {"a": flat})
    assert (after_flat.add_on, after_flat.binding) == (fresh.add_on, "model")

    small = Account("a", 1_000.0, (Position("BTCUSDT-PERP", 0.01),))
    (before,) = decisions([small], snapshot, ruleset, forecaster)
    previous = PreviousAddOn(
        before.add_on, snapshot.as_of, before.initial_margin, {"BTCUSDT-PERP": 0.01}
    )
    assert previous.level({"BTCUSDT-PERP": 0.01}, before.initial_margin) == before.add_on
    assert previous.level({"BTCUSDT-PERP": 0.05}, fresh.initial_margin) == pytest.approx(
        5.0 * before.add_on
    )
    # A level that was given without its book is taken as it is, pace and all.
    (held_back,) = decisions(
        [book_now], snapshot, ruleset, forecaster, {"a": PreviousAddOn(0.0, snapshot.as_of)}
    )
    assert held_back.add_on < fresh.add_on


def test_deposit_never_raises_the_probability(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    accounts, snapshot = book(market), at(market)
    richer = [replace(account, cash=account.cash + 250.0) for account in accounts]
    poor = decisions(accounts, snapshot, ruleset, forecaster)
    rich = decisions(richer, snapshot, ruleset, forecaster)
    for before, after in zip(poor, rich, strict=True):
        assert before.probability is not None
        assert after.probability is not None
        assert all(after.probability[h] <= p for h, p in before.probability.items())


def test_unknown_instrument_is_a_problem_of_its_account_only(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    good = book(market, 1)[0]
    bad = Account("bad", 1.0, (Position("NOPEUSDT-PERP", 1.0),))
    answers = decide([bad, good], at(market), ruleset, forecaster, {})
    assert isinstance(answers[0], AccountProblem)
    assert answers[0].instrument == "NOPEUSDT-PERP"
    assert answers[1] == decide([good], at(market), ruleset, forecaster, {})[0]


def test_account_without_positions_needs_nothing(
    market: Any, ruleset: RuleSet, forecaster: Forecaster
) -> None:
    (decision,) = decisions([Account("flat", 10.0)], at(market), ruleset, forecaster)
    assert decision.add_on == 0.0
    assert decision.deposit_to_meet == 0.0
