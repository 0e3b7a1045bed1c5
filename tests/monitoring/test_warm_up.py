"""The warm-up score: accounts that every engine takes, no record, no start that fails for it."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest

from decisions.decision import NO_BUNDLE
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import list_rulesets, load_ruleset
from monitoring.champion import Champion
from monitoring.warm_up import synthetic_accounts, warm_up

NO_MODEL = Champion(None, NO_BUNDLE, NO_BUNDLE)


@pytest.fixture(scope="module")
def snapshot(market: Any) -> MarketSnapshot:
    history = market.history
    return MarketSnapshot.of_history(history, market.features, int(history.bars.closes[-1]))


@pytest.mark.parametrize("preset", list_rulesets())
def test_every_rule_set_decides_on_a_synthetic_account(
    preset: str, snapshot: MarketSnapshot
) -> None:
    assert warm_up(NO_MODEL, snapshot, load_ruleset(preset)) > 0


def test_a_market_without_marks_has_no_synthetic_account(snapshot: MarketSnapshot) -> None:
    unmarked = dataclasses.replace(snapshot, mark=np.full_like(snapshot.mark, np.nan))
    assert synthetic_accounts(unmarked) == []
    assert warm_up(NO_MODEL, unmarked, load_ruleset("linear-tiers")) == 0


def test_accounts_are_solvent_and_hold_one_symbol_or_all(snapshot: MarketSnapshot) -> None:
    accounts = synthetic_accounts(snapshot)
    assert {len(account.positions) for account in accounts} == {1, 3}
    assert len({account.account_id for account in accounts}) == len(accounts)
    assert all(account.cash > 0.0 for account in accounts)


def test_a_score_that_fails_is_logged_and_keeps_nothing_from_starting(
    snapshot: MarketSnapshot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("monitoring.champion.decide", fail)
    with caplog.at_level(logging.ERROR, "margincast.serving"):
        assert warm_up(NO_MODEL, snapshot, load_ruleset("linear-tiers")) == 0
    assert "the warm-up score failed" in caplog.text


def test_an_endpoint_records_nothing_of_its_warm_up(serve: Any, champion: str) -> None:
    endpoint = serve()
    assert list(endpoint.ledger.records("decision")) == []
