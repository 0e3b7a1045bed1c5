"""Explanations on request: with a decision, or of a recorded one by making it again."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from market.core.clock import HOUR, format_time
from models.bundle.bundle import load_bundle
from monitoring.recorded_models import MOST_MODELS


def only(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (decision,) = response.json()["decisions"]
    return dict(decision)


def explained(endpoint: Any, decision_id: str, **rest: Any) -> Any:
    return endpoint.client.get(f"/v1/decisions/{decision_id}/explanation", **rest)


@pytest.mark.parametrize("later", [0, HOUR // 7, 5 * HOUR])
def test_a_recorded_decision_is_explained_as_if_the_request_had_asked_for_it(
    serve: Any, champion: str, market: Any, account: dict[str, Any], later: int
) -> None:
    endpoint = serve()
    as_of = format_time(int(market.panel.closes[-1]) + later)
    stated = {"previous_add_on": {"amount": 40.0, "as_of": "2020-01-01T00:00:00Z"}}
    asked = only(endpoint.score(account | stated, as_of=as_of, explain=True))
    short = only(endpoint.score(account | stated, as_of=as_of))
    answer = explained(endpoint, short["decision_id"])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found == {
        "decision_id": short["decision_id"],
        "verdict": "equal",
        "superseded_by": [],
        "differences": [],
        "reasons": asked["explain"]["reasons"],
        "explain": asked["explain"],
    }
    assert {reason["kind"] for reason in found["reasons"]} >= {"bound", "rule"}
    recorded = endpoint.client.get(f"/v1/decisions/{asked['decision_id']}").json()
    assert "explain" not in recorded
    assert recorded["reasons"] == asked["reasons"]
    assert len(asked["reasons"]) <= 3


def test_the_stored_answer_of_an_explained_request_is_returned_again(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    body = {"accounts": [account], "explain": True}
    answers = [
        endpoint.client.post("/v1/score", json=body, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert answers[0].content == answers[1].content
    assert only(answers[1])["explain"]["reasons"]


def test_an_unknown_decision_is_404_and_other_records_are_none(serve: Any) -> None:
    endpoint = serve()
    endpoint.ledger.put("market", {})
    for name in ("nothing", "0" * 32):
        answer = explained(endpoint, name)
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("not-found")


def test_explanations_need_the_scope_read(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve(auth="keys")
    score, read = endpoint.key("score"), endpoint.key("read")
    body = {"accounts": [account]}
    decision = only(endpoint.client.post("/v1/score", json=body, headers=score))
    assert explained(endpoint, decision["decision_id"]).status_code == 401
    assert explained(endpoint, decision["decision_id"], headers=score).status_code == 403
    assert explained(endpoint, decision["decision_id"], headers=read).status_code == 200


def test_a_bundle_that_is_gone_or_altered_is_a_conflict_and_mends_when_it_is_back(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any]
) -> None:
    decision = only(serve().score(account))
    bundles.promote(bundles.write(intercept=0.7))
    endpoint = serve()  # with another champion: the bundle is to be loaded
    aside = bundles.root.parent / "aside"
    shutil.move(bundles.root / champion, aside)
    answer = explained(endpoint, decision["decision_id"])
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"].endswith("not-replayable")
    assert champion in problem["detail"]
    assert "not there" in problem["detail"]
    assert str(bundles.root) not in problem["detail"]
    shutil.copytree(aside, bundles.root / champion)
    model = bundles.root / champion / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    answer = explained(endpoint, decision["decision_id"])
    assert answer.status_code == 409
    assert "audit" in answer.json()["detail"]
    assert endpoint.client.get("/health/ready").json()["status"] == "ready"
    shutil.rmtree(bundles.root / champion)
    shutil.move(aside, bundles.root / champion)
    assert explained(endpoint, decision["decision_id"]).json()["verdict"] == "equal"


def test_models_of_earlier_champions_are_loaded_once_and_few_are_kept(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any], monkeypatch: Any
) -> None:
    made = [only(serve().score(account))]
    for intercept in (0.3, 0.6, 0.9):
        bundles.promote(bundles.write(intercept=intercept))
        made.append(only(serve().score(account)))
    assert len({decision["model"] for decision in made}) == 4
    loaded: list[str] = []

    def counted(folder: Any) -> Any:
        loaded.append(folder.name)
        return load_bundle(folder)

    monkeypatch.setattr("monitoring.recorded_models.load_bundle", counted)
    endpoint = serve()

    def ask(*which: int) -> list[str]:
        loaded.clear()
        for i in which:
            assert explained(endpoint, made[i]["decision_id"]).json()["verdict"] == "equal"
        return list(loaded)

    models = [decision["model"] for decision in made]
    assert ask(3, 3) == []  # the champion
    assert ask(0, 1, 0, 1, 3) == [models[0], models[1]]
    assert ask(2, 0, 2) == [models[2], models[0]]  # 0 was used longer ago than 1 and went for 2
    assert MOST_MODELS == 2


def test_openapi_names_the_answer_and_its_problems(serve: Any) -> None:
    document = serve().client.get("/docs/openapi.json").json()
    operation = document["paths"]["/v1/decisions/{decision_id}/explanation"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("DecisionExplanation")
    assert {"401", "403", "404", "409", "503"} <= set(operation["responses"])
    assert "input" in operation["responses"]["409"]["description"]
    assert document["components"]["schemas"]["ScoreRequest"]["properties"]["explain"] is not None
