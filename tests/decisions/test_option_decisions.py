"""Decisions on accounts with options: floored, explained, replayed, tried out like the others."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET

from decisions.decision import decide
from decisions.messages import AccountChange, AccountProblem, Decision, PositionChange
from decisions.records import entries
from decisions.replay import replay
from decisions.what_if.changes import apply_changes, trade_prices
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.book.requirement import compute_requirement
from margin.rules.history import load_history
from margin.rules.ruleset import RuleSet, load_ruleset
from market.accounts.book import Account, Book, Position
from market.core.clock import DAY, HOUR
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard
from market.sources.http import account_message
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

PRESETS = ("derive-pmrm2", "paradex-portfolio", "derive-srm", "deribit-standard")
PERP = "BTCUSDT-PERP"

every_preset = pytest.mark.parametrize("preset", PRESETS)


@dataclasses.dataclass(frozen=True)
class Quoted:
    """A snapshot with options on BTC, and names of some."""

    snapshot: MarketSnapshot
    expiry: str
    spot: float

    def option(self, moneyness: float, side: str) -> str:
        return f"{self.expiry}-{round(self.spot * moneyness)}-{side}"


@pytest.fixture(scope="module")
def quoted(market: Any) -> Quoted:
    at = int(market.panel.closes[-1])
    snapshot = MarketSnapshot.of_history(market.history, market.features, at)
    spot = float(snapshot.mark[market.panel.symbols.index("BTCUSDT")])
    day = datetime.fromtimestamp((at + 30 * DAY) / 1e9, UTC)
    expiry = f"BTC-{day.day}{day:%b%y}".upper()
    board = QuoteBoard(
        {expiry: ExpiryQuote(at - HOUR, 1.01 * spot, 0.02, svi=(0.01, 0.08, -0.3, 0.0, 0.2))},
        {PERP: InstrumentQuote(at, mark=1.001 * spot)},
    )
    return Quoted(dataclasses.replace(snapshot, quotes=board), expiry, spot)


@pytest.fixture
def model(made_bundles: Any) -> Forecaster:
    root, sha = made_bundles
    return Forecaster(load_bundle(root / sha))


def accounts(quoted: Quoted) -> list[Account]:
    call, put = quoted.option(1.1, "C"), quoted.option(0.9, "P")
    spot = quoted.spot
    return [
        Account("short strangle", 0.4 * spot, (Position(call, -1.0), Position(put, -1.0))),
        Account("covered call", 0.3 * spot, (Position(PERP, 1.0, spot), Position(call, -1.0))),
        Account("long call", 0.1 * spot, (Position(call, 2.0),)),
        Account("poor", 0.01 * spot, (Position(put, -1.0), Position(PERP, -0.2))),
    ]


def decided(
    quoted: Quoted, rules: RuleSet, model: Forecaster | None, book: list[Account]
) -> list[Decision]:
    names = [account.account_id for account in book]
    answers = decide(book, quoted.snapshot, rules, model, {}, explain=names)
    assert not any(isinstance(answer, AccountProblem) for answer in answers), answers
    return answers  # type: ignore[return-value]


@every_preset
def test_model_answers_and_explanation_adds_up(
    preset: str, quoted: Quoted, model: Forecaster
) -> None:
    rules = load_ruleset(preset)
    for one in decided(quoted, rules, model, accounts(quoted)):
        assert one.degraded is None
        assert one.probability is not None
        assert one.explain is not UNSET
        engine = one.explain["engine"]
        assert sum(part["maintenance"] for part in engine["parts"]) == pytest.approx(
            one.headroom, abs=0.005
        )
        assert sum(part["initial"] for part in engine["parts"]) == pytest.approx(
            one.equity - one.initial_margin, abs=0.005
        )
        charged = sum(part["maintenance_margin"] for part in one.explain["positions"])
        assert charged + engine["unallocated"] == pytest.approx(one.maintenance_margin, abs=0.005)
        assert one.total_requirement == pytest.approx(one.maintenance_margin + one.add_on)
        assert bool(engine["worst_scenarios"]) == (rules.engine == "scenario")
        for part in one.explain["positions"]:
            assert ("vega" in part) == (part["instrument"] != PERP)
        json.dumps(one.explain, allow_nan=False)
        for name, parts in one.explain["floor_parts"].items():
            amounts = sum(part["amount"] for part in parts)
            assert amounts == pytest.approx(one.explain["floors"][name], abs=0.005)


@every_preset
def test_account_alone_is_decided_like_in_a_book(
    preset: str, quoted: Quoted, model: Forecaster
) -> None:
    rules, book = load_ruleset(preset), accounts(quoted)
    together = decided(quoted, rules, model, book)
    for account, one in zip(book, together, strict=True):
        (alone,) = decided(quoted, rules, model, [account])
        assert alone == one


@every_preset
def test_decision_replays_to_the_last_bit(
    preset: str, quoted: Quoted, model: Forecaster, ledger: Ledger
) -> None:
    rules, book = load_ruleset(preset), accounts(quoted)
    described = {account.account_id: account_message(account) for account in book}
    found, contents, named = entries(
        decided(quoted, rules, model, book),
        described,
        {},
        quoted.snapshot,
        rules,
        dict.fromkeys(described, "local"),
    )
    ledger.append(found, contents=contents)
    for one in named:
        got = replay(ledger, str(one.decision_id), lambda sha: model)
        assert got.equal, got.differences


def test_unquoted_option_is_a_problem_and_the_others_are_decided(
    quoted: Quoted, model: Forecaster
) -> None:
    name = quoted.option(1.0, "C").replace("BTC-", "ETH-")
    faulty = Account("faulty", 1.0, (Position(name, 1.0),))
    rules = load_ruleset("derive-srm")
    problem, one = decide([faulty, accounts(quoted)[2]], quoted.snapshot, rules, model, {})
    assert isinstance(problem, AccountProblem)
    assert (problem.type, problem.instrument) == ("instrument", name)
    assert "post it to /v1/market/quotes" in problem.detail
    assert isinstance(one, Decision)


def test_without_quotes_the_floor_of_linear_accounts_still_answers(
    quoted: Quoted, model: Forecaster
) -> None:
    bare = dataclasses.replace(quoted.snapshot, quotes=None)
    rules = load_ruleset("derive-srm")
    linear = Account("linear", quoted.spot, (Position(PERP, 1.0),))
    (one,) = decide([linear], bare, rules, model, {})
    assert isinstance(one, Decision)
    assert one.degraded is None
    assert one.maintenance_margin > 0.0


def test_stale_option_quotes_are_charged_by_the_floor(quoted: Quoted) -> None:
    rules = load_ruleset("derive-pmrm2")
    assert quoted.snapshot.quotes is not None
    later = dataclasses.replace(
        quoted.snapshot,
        quotes=QuoteBoard(
            {
                name: dataclasses.replace(quote, ts=quote.ts - 5 * HOUR)
                for name, quote in quoted.snapshot.quotes.expiries.items()
            },
            quoted.snapshot.quotes.instruments,
        ),
    )
    book = accounts(quoted)
    fresh = decided(quoted, rules, None, book)
    stale = decided(dataclasses.replace(quoted, snapshot=later), rules, None, book)
    for one, other in zip(fresh, stale, strict=True):
        assert one.explain is not UNSET
        assert other.explain is not UNSET
        assert one.explain["floors"]["stale_data"] == 0.0
        assert other.explain["floors"]["stale_data"] > 0.0
        assert other.degraded is not None


@every_preset
def test_rules_that_the_model_did_not_learn_give_a_reason_and_change_nothing_else(
    preset: str, quoted: Quoted, bundles: Any
) -> None:
    rules, book = load_ruleset(preset), accounts(quoted)
    by_rules = {}
    for learned in (rules.sha256, load_ruleset("linear-tiers").sha256):
        sha = bundles.write(ruleset_sha256=learned)
        by_rules[learned] = decided(
            quoted, rules, Forecaster(load_bundle(bundles.root / sha)), book
        )
    same_rules, other_rules = by_rules.values()
    for same, other in zip(same_rules, other_rules, strict=True):
        assert not [reason for reason in same.reasons if reason.name == "other_rules"]
        (mismatch,) = (reason for reason in other.reasons if reason.name == "other_rules")
        assert mismatch.kind == "data"
        assert rules.name in mismatch.text
        assert (same.probability, same.add_on) == (other.probability, other.add_on)
        assert same.explain is not UNSET
        assert other.explain is not UNSET
        rest = [r for r in other.explain["reasons"] if r["name"] != "other_rules"]
        assert same.explain["reasons"] == rest


@every_preset
@pytest.mark.parametrize("delta", [-3.0, -0.5, 0.5, 1.0, 4.0])
def test_trade_in_an_option_leaves_equity_as_it_is(
    preset: str, delta: float, quoted: Quoted
) -> None:
    rules, view = load_ruleset(preset), quoted.snapshot.view()
    call = quoted.option(1.1, "C")
    held = Account("a", 100.0, (Position(call, -1.0, 17.0), Position(PERP, 0.5, 9.0)))
    for name in (call, PERP, quoted.option(0.9, "P")):
        change = AccountChange("a", 0.0, [PositionChange(name, delta)])
        after = apply_changes({"a": held}, [change], trade_prices(view, rules))["a"]
        both = compute_requirement(Book.of([held, after]), view, rules)
        assert not both.problems
        assert both.equity[1] == pytest.approx(both.equity[0], rel=1e-9, abs=1e-6)
        total = {leg.instrument: leg.quantity for leg in after.positions}
        assert total.get(name, 0.0) == pytest.approx(delta + {call: -1.0, PERP: 0.5}.get(name, 0.0))


def test_option_that_closes_is_gone_and_paid(quoted: Quoted) -> None:
    rules, view = load_ruleset("derive-srm"), quoted.snapshot.view()
    call = quoted.option(1.1, "C")
    held = Account("a", 100.0, (Position(call, 2.0),))
    change = AccountChange("a", 0.0, [PositionChange(call, -2.0)])
    after = apply_changes({"a": held}, [change], trade_prices(view, rules))["a"]
    before = compute_requirement(Book.of([held]), view, rules)
    assert after.positions == ()
    assert after.cash == pytest.approx(before.equity[0])


def test_served_with_posted_quotes(serve: Any, market: Any, champion: str, quoted: Quoted) -> None:
    endpoint = serve(rules=load_history("derive-pmrm2"))
    call = quoted.option(1.1, "C")
    account = {
        "account_id": "a",
        "cash": quoted.spot,
        "positions": [{"instrument": call, "quantity": -1.0}],
    }
    refused = endpoint.score(account)
    assert refused.status_code == 422
    assert call in refused.text
    svi = {"a": 0.01, "b": 0.08, "rho": -0.3, "m": 0.0, "sigma": 0.2}
    quote = {"instrument": quoted.expiry, "forward": quoted.spot, "rate": 0.0, "svi": svi}
    endpoint.client.post("/v1/market/quotes", json={"quotes": [quote]})
    one = endpoint.score(account, explain=True).json()["decisions"][0]
    assert one["maintenance_margin"] > 0.0
    assert one["explain"]["engine"]["worst_scenarios"]
    assert np.isfinite(one["add_on"])
    change = {"account_id": "a", "positions": [{"instrument": call, "quantity_delta": 1.0}]}
    body = {"accounts": [account], "changes": [change]}
    answer = endpoint.client.post("/v1/what-if", json=body).json()
    before, after = (answer[when]["decisions"][0] for when in ("before", "after"))
    assert after["equity"] == pytest.approx(before["equity"])
    assert after["maintenance_margin"] == pytest.approx(0.0, abs=1e-6)
