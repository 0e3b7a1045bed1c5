"""A score of an account of the live book continues from the level that its evaluation set."""

from __future__ import annotations

import time
from typing import Any

import pytest

from decisions.replay import replay
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.errors import AlteredError
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.evaluation.book_follower import BookFollower
from monitoring.evaluation.view import BookView
from tests.endpoint_fixtures import Bundles, Endpoint, Serve, SmallMarket
from tests.monitoring.evaluation.helpers import snapshot, watched

ROWS = 250


def request() -> dict[str, Any]:
    positions = [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}]
    return {"account_id": "acc", "cash": 900.0, "positions": positions}


def follow(endpoint: Endpoint) -> None:
    deadline = time.monotonic() + 20.0
    while endpoint.client.get("/v1/accounts/acc").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_score_continues_from_the_newer_of_evaluation_and_decision(
    serve: Serve,
    market: SmallMarket,
    ruleset: RuleSet,
    bundles: Bundles,
    champion: str,
    ledger: Ledger,
) -> None:
    endpoint = serve(live=market.head(ROWS).live(), monitoring=True)
    first = endpoint.score(request()).json()["decisions"][0]
    w = watched(market, ruleset, bundles, ledger, ROWS)
    w.update(snapshot("acc", 1, 900.0, BTC=0.1))
    w.settle()
    model = next(r for r in w.records() if "amount" in r.payload["columns"])
    assert model.payload["continued"] == {"acc": first["decision_id"]}
    assert w.replay(model).verdict == "equal"
    w.bars(ROWS)
    w.settle()
    assert w.monitor.state is not None
    level = float(w.monitor.state.levels.amount[0])
    follow(endpoint)
    time.sleep(1.2)  # the endpoint follows market and evaluations
    second = endpoint.score(request()).json()["decisions"][0]
    payload = ledger.get_record(second["decision_id"]).payload
    assert payload["previous"]["amount"] == level
    assert payload["previous"]["as_of"] == w.market.live.newest_close

    def load(sha256: str) -> Forecaster:
        return Forecaster(load_bundle(bundles.root / sha256))

    shown = endpoint.client.get("/metrics").text
    assert "margincast_evaluation_accounts 1.0" in shown
    assert 'margincast_evaluation_problems{pass="model"} 0.0' in shown
    assert replay(ledger, second["decision_id"], load).verdict == "equal"


def test_readiness_says_where_no_monitor_evaluates(
    serve: Serve, champion: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("monitoring.evaluation.book_follower.STARTING_SECONDS", 0.0)
    ready = serve(monitoring=True).client.get("/health/ready").json()
    assert ready["status"] == "degraded"
    assert any("no monitor" in reason for reason in ready["reasons"])
    quiet = serve().client.get("/health/ready").json()
    assert not any("monitor" in reason for reason in quiet["reasons"])


def test_an_endpoint_has_read_the_live_book_before_it_answers(
    serve: Serve,
    market: SmallMarket,
    ruleset: RuleSet,
    bundles: Bundles,
    champion: str,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = watched(market, ruleset, bundles, ledger, ROWS)
    w.update(snapshot("acc", 1, 900.0, BTC=0.1))
    w.settle()
    assert w.monitor.state is not None
    level = float(w.monitor.state.levels.amount[0])
    # Nothing but the start reads it: the thread that follows the book never comes to its turn.
    monkeypatch.setattr(BookFollower, "_run", lambda self: None)
    endpoint = serve(live=market.head(ROWS).live(), monitoring=True)
    assert "margincast_evaluation_accounts 1.0" in endpoint.client.get("/metrics").text
    decision = endpoint.score(request()).json()["decisions"][0]
    payload = ledger.get_record(decision["decision_id"]).payload
    assert payload["previous"]["amount"] == level, "the first score knows the level in force"


def test_an_endpoint_starts_where_the_live_book_cannot_be_read(
    serve: Serve, champion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(view: BookView) -> None:
        raise AlteredError("a row is not what its record says")

    monkeypatch.setattr(BookView, "follow", refuse)
    endpoint = serve(monitoring=True)
    deadline = time.monotonic() + 20.0
    while True:
        ready = endpoint.client.get("/health/ready").json()
        if any("the live book cannot be read" in reason for reason in ready["reasons"]):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ready["status"] == "degraded"
