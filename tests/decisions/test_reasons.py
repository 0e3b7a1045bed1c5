"""Reasons: three that matter most with every decision, all of them where it is explained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from decisions.decision import decide
from decisions.messages import AccountProblem, Decision
from decisions.reasons import MOST_REASONS
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet, load_ruleset
from market.accounts.book import Account, Position
from market.core.clock import HOUR
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

PERPS = ("BTCUSDT-PERP", "ETHUSDT-PERP")


def snapshot_of(market: Any, later: int = 0) -> MarketSnapshot:
    as_of = int(market.features.closes[-1]) + later
    return MarketSnapshot.of_history(market.history, market.features, as_of)


def with_suspect_bar(snapshot: MarketSnapshot, market: Any) -> MarketSnapshot:
    """BTC's newest bar 30% lower, and not confirmed."""
    suspect = np.full(len(snapshot.mark), np.nan)
    column = market.panel.symbols.index("BTCUSDT")
    suspect[column] = 0.7 * snapshot.mark[column]
    ts = np.where(np.isnan(suspect), 0, int(snapshot.at_close.closes[0]))
    return replace(snapshot, suspect_mark=suspect, suspect_ts=ts)


def book(market: Any, n: int = 12) -> list[Account]:
    mark = dict(zip(market.panel.symbols, market.history.mark[-1].tolist(), strict=True))
    rng = np.random.default_rng(5)
    accounts = [Account("empty", 10.0)]
    for i in range(n):
        legs = tuple(
            Position(name, float(rng.normal()) * 2e4 / mark[name.removesuffix("-PERP")])
            for name in PERPS[: 1 + i % 2]
        )
        accounts.append(Account(f"a{i}", 5_000.0 * (1 + i % 3), legs))
    return accounts


def decided(
    accounts: list[Account], snapshot: MarketSnapshot, ruleset: RuleSet, model: Any, **rest: Any
) -> list[Decision]:
    answers = decide(accounts, snapshot, ruleset, model, {}, **rest)
    assert not any(isinstance(answer, AccountProblem) for answer in answers)
    return answers  # type: ignore[return-value]


def names_of(decision: Decision) -> list[str]:
    return [reason.name for reason in decision.reasons]


@pytest.fixture
def model(made_bundles: Any) -> Forecaster:
    root, sha = made_bundles
    return Forecaster(load_bundle(root / sha))


def test_a_sound_decision_names_what_bound_it_and_the_largest_floor(
    market: Any, model: Forecaster
) -> None:
    ruleset = load_ruleset("linear-tiers")
    for one in decided(book(market), snapshot_of(market), ruleset, model):
        bound, *floors = one.reasons
        assert (bound.kind, bound.name, bound.value) == ("bound", one.binding, one.add_on)
        assert len(floors) == (one.floor > 0.0)
        assert all((floor.kind, floor.value) == ("rule", one.floor) for floor in floors)


def test_what_is_wrong_with_the_data_goes_before_floors_in_the_stated_order(
    market: Any, ruleset: RuleSet, bundles: Any
) -> None:
    other = bundles.write(ruleset_sha256=load_ruleset("emir-tiers").sha256)
    model = Forecaster(load_bundle(bundles.root / other))
    accounts = book(market)[1:]
    fresh = decided(accounts, snapshot_of(market), ruleset, model)
    assert [names_of(one)[1] for one in fresh] == ["other_rules"] * len(fresh)
    assert {one.reasons[2].kind for one in fresh} == {"rule"}
    for one in decided(accounts, with_suspect_bar(snapshot_of(market), market), ruleset, model):
        assert names_of(one)[1:] == ["suspect_price", "other_rules"]
    late = snapshot_of(market, later=3 * HOUR)
    for one in decided(accounts, late, ruleset, model):
        assert names_of(one)[1:] == ["degraded", "stale_price"]
    for one in decided(accounts, with_suspect_bar(late, market), ruleset, model):
        assert names_of(one)[1:] == ["degraded", "suspect_price"]


def test_no_decision_names_more_than_three_reasons(market: Any, model: Forecaster) -> None:
    for preset in ("linear-tiers", "emir-tiers", "emir-ccp"):
        for later in (0, 5 * HOUR):
            snapshot = with_suspect_bar(snapshot_of(market, later), market)
            for known in (model, None):
                found = decided(book(market), snapshot, load_ruleset(preset), known)
                assert max(len(one.reasons) for one in found) <= MOST_REASONS == 3


def test_an_explanation_has_every_reason_and_the_leading_ones_are_among_them(
    market: Any, ruleset: RuleSet, model: Forecaster
) -> None:
    snapshot = with_suspect_bar(snapshot_of(market), market)
    accounts = book(market)
    names = [account.account_id for account in accounts]
    for one in decided(accounts, snapshot, ruleset, model, explain=names):
        assert one.explain is not UNSET
        every = one.explain["reasons"]
        assert all(msgspec.to_builtins(reason) in every for reason in one.reasons)
        floors = {r["name"]: r["value"] for r in every if r["kind"] == "rule"}
        assert floors == one.explain["floors"]
        assert bool([r for r in every if r["kind"] == "model"]) == (one.degraded is None)


@pytest.mark.parametrize("later", [0, 5 * HOUR])
@pytest.mark.parametrize("preset", ["linear-tiers", "emir-tiers"])
def test_only_the_named_accounts_are_explained_and_each_as_if_it_were_alone(
    market: Any, model: Forecaster, preset: str, later: int
) -> None:
    ruleset, accounts = load_ruleset(preset), book(market)
    snapshot = with_suspect_bar(snapshot_of(market, later), market)
    plain = decided(accounts, snapshot, ruleset, model)
    assert all(one.explain is UNSET for one in plain)
    named = {accounts[i].account_id for i in (0, 3, 8)}
    some = decided(accounts, snapshot, ruleset, model, explain=named)
    assert {one.account_id for one in some if one.explain is not UNSET} == named
    every = decided(accounts, snapshot, ruleset, model, explain=[a.account_id for a in accounts])
    for account, short, one, full in zip(accounts, plain, some, every, strict=True):
        (alone,) = decided([account], snapshot, ruleset, model, explain=[account.account_id])
        assert alone == full
        assert one == (full if account.account_id in named else short)
        assert msgspec.structs.replace(full, explain=UNSET) == short


def test_an_account_with_a_problem_is_not_explained_and_spoils_no_other(
    market: Any, ruleset: RuleSet, model: Forecaster
) -> None:
    accounts = [Account("bad", 1.0, (Position("NOSUCH-PERP", 1.0),)), *book(market, 2)]
    names = [account.account_id for account in accounts]
    bad, *others = decide(accounts, snapshot_of(market), ruleset, model, {}, explain=names)
    assert isinstance(bad, AccountProblem)
    assert others == decided(accounts[1:], snapshot_of(market), ruleset, model, explain=names)
