"""The challenger scores in shadow: recorded beside the decisions, never in their way."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from decisions.book_scoring import DecisionBasis, score_book
from ledger.store import Ledger
from ledger.verify import verify
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.errors import ModelError
from market.sources.http import AccountMessage, account_update
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHALLENGER, set_challenger
from models.forecaster import Forecaster
from monitoring import shadow
from monitoring.champion import ChampionWatch
from monitoring.shadow import SHADOW, ShadowCall, ShadowScorer


def accounts_of(count: int) -> list[dict[str, Any]]:
    return [
        {
            "account_id": f"acc-{i}",
            "cash": 3_000.0 + i,
            "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}],
        }
        for i in range(count)
    ]


def domain(accounts: list[dict[str, Any]], as_of: int) -> list[Account]:
    messages = msgspec.convert(accounts, list[AccountMessage])
    return [account_update(message, as_of).account for message in messages]


def shadow_rows(ledger: Ledger) -> dict[str, tuple[str, list[float] | None, float]]:
    """Challenger, probabilities and add-on by decision id."""
    return {
        row[0]: (record.payload["challenger"], row[1], row[2])
        for record in ledger.records(SHADOW)
        for row in record.payload["scores"]
    }


def test_every_decision_is_scored_by_both_and_the_champion_answers(
    serve: Any, champion: str, bundles: Any, ruleset: RuleSet
) -> None:
    challenger = bundles.write(intercept=2.0)
    set_challenger(bundles.root, challenger)
    endpoint = serve()
    accounts = accounts_of(5)
    decisions = endpoint.score(*accounts).json()["decisions"]
    endpoint.client.__exit__()  # as at the end of the process: what waits is scored
    rows = shadow_rows(endpoint.ledger)
    assert {decision["model"] for decision in decisions} == {champion}
    assert set(rows) == {decision["decision_id"] for decision in decisions}
    snapshot = endpoint.live.snapshot(endpoint.live.newest_close)
    model = Forecaster(load_bundle(bundles.root / challenger))
    basis = DecisionBasis(snapshot, ruleset, model, {})
    expected = score_book(Book.of(domain(accounts, snapshot.as_of)), basis)
    for i, decision in enumerate(decisions):
        by, probability, add_on = rows[decision["decision_id"]]
        assert by == challenger
        assert probability == expected.forecast.probability[i].tolist()
        assert add_on == expected.add_on.level[i]
        assert probability is not None
        assert probability[2] > decision["probability"]["24"]
    assert verify(endpoint.ledger.engine).intact


def test_without_a_challenger_nothing_is_recorded(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    assert endpoint.score(account).status_code == 200
    endpoint.client.__exit__()
    assert shadow_rows(endpoint.ledger) == {}


def test_challenger_that_fails_its_audit_is_no_fault_of_the_endpoint(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any]
) -> None:
    challenger = bundles.write(intercept=2.0)
    path = bundles.root / challenger / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    set_challenger(bundles.root, challenger)
    endpoint = serve()
    assert endpoint.score(account).json()["decisions"][0]["model"] == champion
    assert endpoint.client.get("/health/ready").json() == {"status": "ready", "reasons": []}


@pytest.fixture
def call(market: Any, ruleset: Any) -> ShadowCall:
    live = market.live()
    snapshot = live.snapshot(live.newest_close)
    accounts = domain(accounts_of(3), snapshot.as_of)
    return ShadowCall(["a" * 32, "b" * 32, "c" * 32], accounts, snapshot, ruleset, {})


def test_full_queue_drops_and_counts_and_never_waits(
    ledger: Ledger,
    champion: str,
    bundles: Any,
    call: ShadowCall,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shadow, "MAX_WAITING", 7)
    set_challenger(bundles.root, bundles.write(intercept=2.0))
    counts: dict[str, int] = {}

    def count(result: str, accounts: int) -> None:
        counts[result] = counts.get(result, 0) + accounts

    scorer = ShadowScorer(ledger, ChampionWatch(bundles.root, lambda: (), CHALLENGER), count)
    for _ in range(4):  # its thread does not run yet
        scorer.submit(call)
    assert counts == {"dropped": 6}
    scorer.start()
    scorer.close()
    assert counts == {"dropped": 6, "recorded": 6}
    assert len(shadow_rows(ledger)) == 3, "of the same three decisions"


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("score_book", ModelError("the graph is broken")),
        ("score_book", IndexError("unexpected error")),
        ("ChampionWatch.current", RuntimeError("nor this")),
    ],
)
def test_failure_loses_scores_and_counts_them_and_scoring_goes_on(
    ledger: Ledger,
    champion: str,
    bundles: Any,
    call: ShadowCall,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
    error: Exception,
) -> None:
    set_challenger(bundles.root, bundles.write(intercept=2.0))
    monkeypatch.setattr(shadow, "PAUSE_SECONDS", 0.0)
    results: list[tuple[str, int]] = []
    arrived = threading.Semaphore(0)

    def note(result: str, accounts: int) -> None:
        results.append((result, accounts))
        arrived.release()

    def fail(*_: object) -> None:
        raise error

    scorer = ShadowScorer(ledger, ChampionWatch(bundles.root, lambda: (), CHALLENGER), note)
    scorer.start()
    with monkeypatch.context() as patch:
        patch.setattr(f"monitoring.shadow.{where}", fail)
        scorer.submit(call)
        assert arrived.acquire(timeout=120.0)
    scorer.submit(call)
    scorer.close()
    assert results == [("failed", 3), ("recorded", 3)]
    assert str(error) in caplog.text
