"""Decisions as they are recorded, and replayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decisions.book_scoring import PreviousAddOn
from decisions.decision import Outcome, decide
from decisions.records import entries, levels_in_force
from decisions.replay import replay
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet, load_ruleset
from market.accounts.book import Account, Balance, Position
from market.core.clock import DAY, HOUR
from market.core.errors import BundleError, LedgerError
from market.sources.http import account_message, account_update
from models.bundle.bundle import MODEL_FILE, load_bundle
from models.forecaster import Forecaster

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
    found, contents, named = entries(outcome.decisions, accounts, before, snapshot, ruleset)
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


def test_previous_add_on_is_that_of_the_last_record(
    ledger: Ledger, market: Any, ruleset: RuleSet, load: Load, champion: str
) -> None:
    record(ledger, market, ruleset, load(champion), row=-2)
    record(ledger, market, ruleset, load(champion))
    previous = levels_in_force(ledger, ["a", "c", "unknown"]).previous
    assert set(previous) == {"a", "c"}
    last = ledger.last_decisions(["a"])["a"].payload
    assert previous["a"] == PreviousAddOn(
        last["decision"]["add_on"],
        int(market.features.closes[-1]),
        last["decision"]["initial_margin"],
        {leg["instrument"]: leg["quantity"] for leg in last["account"]["positions"]},
    )


def test_fallback_is_no_add_on_to_go_on_from(ledger: Ledger, market: Any, ruleset: RuleSet) -> None:
    record(ledger, market, ruleset, None)
    assert levels_in_force(ledger, ["a", "c"]).previous == {}


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
        changed = raw.execute(
            "UPDATE contents SET content = replace(content, '1', '2') WHERE kind = ?", (kind,)
        )
        assert changed.rowcount == 1
    raw.close()
    with (
        Ledger(f"sqlite:///{tmp_path}/ledger.db") as opened,
        pytest.raises(LedgerError, match="altered"),
    ):
        replay(opened, name, lambda sha: pytest.fail(sha))


def test_unknown_decision_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        replay(ledger, "nothing", lambda sha: pytest.fail(sha))
