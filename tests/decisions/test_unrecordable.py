"""A decision that cannot be recorded for what it holds is an error of its account alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from decisions import decision as decision_module
from decisions.messages import Decision
from ledger.verify import verify
from monitoring import champion as champion_module


@pytest.fixture
def infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions on accounts named bad… hold an infinite figure that every check let through."""
    decide = decision_module.decide

    def with_infinity(*arguments: Any, **rest: Any) -> list[Any]:
        return [
            msgspec.structs.replace(answer, total_requirement=float("inf"))
            if isinstance(answer, Decision) and answer.account_id.startswith("bad")
            else answer
            for answer in decide(*arguments, **rest)
        ]

    monkeypatch.setattr(champion_module, "decide", with_infinity)


@pytest.mark.usefixtures("infinite")
def test_the_neighbours_are_recorded_and_readiness_stays(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    book = [account | {"account_id": name} for name in ("good", "bad", "also good", "bad too")]
    answer = endpoint.score(*book)
    assert answer.status_code == 200
    body = answer.json()
    assert [d["account_id"] for d in body["decisions"]] == ["good", "also good"]
    assert [e["account_id"] for e in body["errors"]] == ["bad", "bad too"]
    assert all(error["type"] == "unrecordable" for error in body["errors"])
    assert "$.decision.total_requirement is inf" in body["errors"][0]["detail"]
    for decision in body["decisions"]:
        record = endpoint.ledger.get_record(decision["decision_id"])
        assert record.payload["decision"] == decision
    assert len(list(endpoint.ledger.records("decision"))) == 2
    assert endpoint.client.get("/health/ready").json()["status"] == "ready"
    assert verify(endpoint.ledger.engine).intact


@pytest.mark.usefixtures("infinite")
def test_nothing_but_unrecordable_decisions_is_422_and_no_fault_of_the_ledger(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    for headers in ({}, {"Idempotency-Key": "k"}):
        answer = endpoint.client.post(
            "/v1/score", json={"accounts": [account | {"account_id": "bad"}]}, headers=headers
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["type"] == "unrecordable"
    assert list(endpoint.ledger.records("decision")) == []
    assert endpoint.client.get("/health/ready").json()["status"] == "ready"


@pytest.mark.usefixtures("infinite")
def test_the_stored_answer_of_an_idempotent_request_names_the_unrecordable(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    body = {"accounts": [account, account | {"account_id": "bad"}]}
    answers = [
        endpoint.client.post("/v1/score", json=body, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert [e["account_id"] for e in answers[0].json()["errors"]] == ["bad"]
    assert len(list(endpoint.ledger.records("decision"))) == 1


def test_a_market_that_cannot_be_recorded_is_422_and_no_fault_of_the_ledger(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from features.state.snapshot import MarketSnapshot

    endpoint = serve()
    content = MarketSnapshot.content
    monkeypatch.setattr(
        MarketSnapshot, "content", lambda self: content(self) | {"age": [float("inf")]}
    )
    answer = endpoint.score(account)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("unrecordable")
    assert endpoint.client.get("/health/ready").json()["status"] == "ready"
