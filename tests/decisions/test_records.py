"""Decisions as they are recorded, and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET
from sqlalchemy import func, select

from decisions.book_scoring import PreviousAddOn
from decisions.decision import Outcome, decide
from decisions.levels_in_force import LevelsInForce
from decisions.records import entries
from decisions.replay import replay
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes
from ledger.packing import pack, unpack
from ledger.schema import contents as contents_table
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet, load_ruleset
from market.accounts.book import Account, Balance, Position
from market.core.clock import DAY, HOUR, SECOND
from market.core.errors import BundleError, LedgerError
from market.sources.http import BarIn, account_message, account_update, bar_updates
from models.bundle.bundle import MODEL_FILE, load_bundle
from models.forecaster import Forecaster
from tests.endpoint_fixtures import levels_of
from tests.ledger.intact import intact

Load = Callable[[str], Forecaster]

ACCOUNTS = (
    Account("a", 3_000.0, (Position("BTCUSDT-PERP", 0.1), Position("ETHUSDT-PERP", -2.0, 2_500.5))),
    Account("b", 1e-3, (Position("ETHUSDT-PERP", 0.1),), (Balance("BTC", 1 / 3),)),
    Account("c", 10.0),
)


@pytest.fixture
def load(bundles: Any, champion: str) -> Load:
    """Loads a bundle of the test's own copy by its name, as an auditor would."""
    return lambda sha: Forecaster(load_bundle(bundles.root / sha))


def record(
    ledger: Ledger,
    market: Any,
    ruleset: RuleSet,
    model: Forecaster | None,
    previous: dict[str, PreviousAddOn] | None = None,
    row: int = -1,
) -> list[str]:
    as_of = int(market.features.closes[row])
    snapshot = MarketSnapshot.of_history(market.history, market.features, as_of)
    before = previous or {}
    results = decide(ACCOUNTS, snapshot, ruleset, model, before, no_model="none yet")
    outcome = Outcome.of(results, model)
    accounts = {account.account_id: account_message(account) for account in ACCOUNTS}
    found, contents, named = entries(
        outcome.decisions, accounts, before, snapshot, ruleset, dict.fromkeys(accounts, "local")
    )
    ledger.append(found, contents=contents)
    return [str(decision.decision_id) for decision in named]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_account_survives_the_request_form(account: Account) -> None:
    assert account_update(account_message(account), 0).account == account


@pytest.mark.parametrize("row", [-1, 100])
def test_replay_is_equal_to_the_last_bit(
    ledger: Ledger, market: Any, ruleset: RuleSet, load: Load, champion: str, row: int
) -> None:
    as_of = int(market.features.closes[row])
    previous = {"a": PreviousAddOn(0.1 + 0.2, as_of - 3 * HOUR - 7)}
    for name in record(ledger, market, ruleset, load(champion), previous, row):
        found = replay(ledger, name, load)
        assert found.equal, found.differences
        assert found.equal_within
        assert found.same_machine
        assert found.differences == {}


def test_replay_without_a_model_is_equal(ledger: Ledger, market: Any, ruleset: RuleSet) -> None:
    def never(sha: str) -> Forecaster:
        raise AssertionError(f"no model was used, yet {sha} is asked for")

    for name in record(ledger, market, ruleset, None):
        assert replay(ledger, name, never).equal


@pytest.mark.parametrize("row", [-1, 100])
def test_replay_of_a_simulation_is_equal_to_the_last_bit(
    ledger: Ledger, market: Any, load: Load, champion: str, row: int
) -> None:
    simulating = load_ruleset("emir-ccp")
    for name in record(ledger, market, simulating, load(champion), row=row):
        recorded = ledger.get_record(name).payload
        assert recorded["contents"]["daily_closes_sha256"]
        found = replay(ledger, name, load)
        assert found.equal, found.differences


def test_daily_closes_are_stored_once_a_day_and_only_where_they_are_simulated(
    ledger: Ledger, market: Any, ruleset: RuleSet
) -> None:
    names = record(ledger, market, ruleset, None)
    assert "daily_closes_sha256" not in ledger.get_record(names[0]).payload["contents"]
    simulating = load_ruleset("emir-ccp")
    midnight = int(np.flatnonzero(market.features.closes % DAY == 0)[-1])
    stored = [
        ledger.get_record(name).payload["contents"]["daily_closes_sha256"]
        for row in (midnight - 2, midnight - 1, midnight)
        for name in record(ledger, market, simulating, None, row=row)
    ]
    assert len(set(stored[:6])) == 1
    assert len(set(stored)) == 2


def contents_of(ledger: Ledger, kind: str) -> int:
    with ledger.engine.connect() as connection:
        query = select(func.count()).select_from(contents_table)
        return int(connection.execute(query.where(contents_table.c.kind == kind)).scalar_one())


def test_a_thousand_decision_times_between_two_bars_store_one_market(
    ledger: Ledger, market: Any, ruleset: RuleSet
) -> None:
    live = market.live()
    close = int(market.panel.closes[-1])
    accounts = {account.account_id: account_message(account) for account in ACCOUNTS[:1]}
    decided = decide(ACCOUNTS[:1], live.snapshot(close), ruleset, None, {})
    (decision,) = Outcome.of(decided, None).decisions
    every = []
    for later in range(1_000):
        snapshot = live.state.snapshot(close + later * (3 * SECOND + 7))
        found, shared, _ = entries(
            [decision], accounts, {}, snapshot, ruleset, dict.fromkeys(accounts, "local")
        )
        every += found
        assert [kind for kind, _ in shared] == ["market", "ruleset"]
        assert shared[0][1].text == canonical_bytes(snapshot.content())
    ledger.append(every, contents=shared)
    assert contents_of(ledger, "market") == 1
    named = {entry.payload["contents"]["market_sha256"] for entry in every}
    assert named == {shared[0][1].sha256}
    assert len({entry.as_of for entry in every}) == 1_000


def test_decisions_at_other_times_than_the_close_replay_to_the_last_bit(
    ledger: Ledger, market: Any, ruleset: RuleSet, load: Load, champion: str
) -> None:
    live, model = market.live(), load(champion)
    close = int(market.panel.closes[-1])
    accounts = {account.account_id: account_message(account) for account in ACCOUNTS}
    for later in (0, 1, 7 * SECOND + 3, HOUR // 7, 3 * HOUR + 1):
        snapshot = live.state.snapshot(close + later)
        outcome = Outcome.of(decide(ACCOUNTS, snapshot, ruleset, model, {}), model)
        found, shared, _ = entries(
            outcome.decisions, accounts, {}, snapshot, ruleset, dict.fromkeys(accounts, "local")
        )
        ledger.append(found, contents=shared)
        assert (outcome.decisions[0].degraded is None) == (later <= 2 * HOUR)
    assert contents_of(ledger, "market") == 1
    for record in ledger.records("decision"):
        assert replay(ledger, record.id, load).differences == {}


def test_a_decision_at_the_mark_of_a_bar_that_waits_replays_to_the_last_bit(
    ledger: Ledger, market: Any, ruleset: RuleSet, load: Load, champion: str
) -> None:
    live, model = market.head(220).live(), load(champion)
    posted = bar_updates([BarIn(**market.bar(220, 0))], None)
    live.post("1h", posted.updates)
    assert live.state.waiting
    accounts = {account.account_id: account_message(account) for account in ACCOUNTS}
    close = int(market.panel.closes[220])
    for later in (-HOUR // 3, 0, 1, HOUR // 7):
        snapshot = live.state.snapshot(close + later)
        outcome = Outcome.of(decide(ACCOUNTS, snapshot, ruleset, model, {}), model)
        found, shared, _ = entries(
            outcome.decisions, accounts, {}, snapshot, ruleset, dict.fromkeys(accounts, "local")
        )
        ledger.append(found, contents=shared)
    assert contents_of(ledger, "market") == 2
    ages = set()
    for record in ledger.records("decision"):
        assert replay(ledger, record.id, load).differences == {}
        ages |= {mark["age_seconds"] for mark in record.payload["decision"]["marks"]}
    assert any(age == pytest.approx(HOUR // 7 / SECOND, abs=1e-6) for age in ages)


def test_a_record_holds_the_decision_without_its_explanation(
    ledger: Ledger, market: Any, ruleset: RuleSet, load: Load, champion: str
) -> None:
    snapshot = market.live().state.snapshot(int(market.panel.closes[-1]))
    model, names = load(champion), [account.account_id for account in ACCOUNTS]
    accounts = {account.account_id: account_message(account) for account in ACCOUNTS}
    previous = {"a": PreviousAddOn(0.1 + 0.2, snapshot.as_of - 7, 1 / 3, {"BTCUSDT-PERP": 0.5})}
    texts = []
    for explain in ([], names):
        results = decide(ACCOUNTS, snapshot, ruleset, model, previous, explain=explain)
        found, _, named = entries(
            Outcome.of(results, model).decisions,
            accounts,
            previous,
            snapshot,
            ruleset,
            dict.fromkeys(accounts, "key-1"),
        )
        assert [decision.explain is UNSET for decision in named] == [not explain] * len(names)
        assert [entry.id for entry in found] == [decision.decision_id for decision in named]
        for entry in found:
            payload = dict(entry.payload, decision=dict(entry.payload["decision"]))
            assert payload["decision"].pop("decision_id") == entry.id
            texts.append(canonical_bytes(payload))
    assert texts[: len(names)] == texts[len(names) :]
    payload = found[0].payload
    assert payload["requester"] == "key-1"
    assert payload["previous"] == asdict(previous["a"])
    assert payload["decision"] == msgspec.to_builtins(
        msgspec.structs.replace(named[0], explain=UNSET), str_keys=True
    )
    assert payload["account"] == msgspec.to_builtins(accounts["a"])
    assert payload["schema"] == 3


def test_previous_add_on_is_that_of_the_last_record(
    ledger: Ledger, market: Any, ruleset: RuleSet, load: Load, champion: str
) -> None:
    record(ledger, market, ruleset, load(champion), row=-2)
    record(ledger, market, ruleset, load(champion))
    previous = levels_of(LevelsInForce(ledger), "a", "c", "unknown")
    assert set(previous) == {"a", "c"}
    last = intact(ledger.last_decisions(["a"]))["a"].payload
    assert previous["a"] == PreviousAddOn(
        last["decision"]["add_on"],
        int(market.features.closes[-1]),
        last["decision"]["initial_margin"],
        {leg["instrument"]: leg["quantity"] for leg in last["account"]["positions"]},
    )


def test_fallback_is_no_add_on_to_go_on_from(ledger: Ledger, market: Any, ruleset: RuleSet) -> None:
    record(ledger, market, ruleset, None)
    assert levels_of(LevelsInForce(ledger), "a", "c") == {}


def test_other_model_shows_in_the_replay(
    ledger: Ledger, market: Any, ruleset: RuleSet, bundles: Any, load: Load, champion: str
) -> None:
    other = load(bundles.write(intercept=0.7))
    name = record(ledger, market, ruleset, load(champion))[0]
    found = replay(ledger, name, lambda sha: other)
    assert not found.equal
    assert not found.equal_within
    assert {"probability", "model"} <= set(found.differences)


def test_tampered_bundle_is_detected(
    ledger: Ledger, market: Any, ruleset: RuleSet, bundles: Any, load: Load, champion: str
) -> None:
    name = record(ledger, market, ruleset, load(champion))[0]
    path = bundles.root / champion / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleError, match="checksum"):
        replay(ledger, name, load)


@pytest.mark.parametrize("kind", ["market", "ruleset"])
def test_tampered_market_or_rules_are_detected(
    ledger: Ledger, market: Any, ruleset: RuleSet, tmp_path: Path, kind: str
) -> None:
    import sqlite3

    name = record(ledger, market, ruleset, None)[0]
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.db") as raw:
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            raw.execute(f"DROP TRIGGER {trigger}")
        ((stored,),) = raw.execute("SELECT content FROM contents WHERE kind = ?", (kind,))
        altered = pack(unpack(stored).replace(b"1", b"2"))
        raw.execute("UPDATE contents SET content = ? WHERE kind = ?", (altered, kind))
    raw.close()
    with (
        Ledger(f"sqlite:///{tmp_path}/ledger.db") as opened,
        pytest.raises(LedgerError, match="altered"),
    ):
        replay(opened, name, lambda sha: pytest.fail(sha))


def test_unknown_decision_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        replay(ledger, "nothing", lambda sha: pytest.fail(sha))
