"""Problems of the OpenAPI document are those that the endpoint answers, word for word."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from enforcement.controls import control_state
from ledger.schema import outbox, writing
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.core.clock import DAY
from market.core.errors import LedgerError
from serving.http.documentation.examples import COMMON, examples_of
from serving.service import Service
from tests.endpoint_fixtures import Bundles, Serve
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import ROWS, Desk, desk
from tests.serving.http.api_walk import Walk
from tests.serving.test_rules_in_force import version

__all__ = ["desk"]

_VARIES = [
    (r"'[^']*'", "'…'"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\b[0-9a-f]{12,}\b", "ID"),
    (r"\b\d+(\.\d+)?\b", "N"),
]
"""Names, times, ids and numbers of a detail."""


def wording(detail: str) -> str:
    for pattern, word in _VARIES:
        detail = re.sub(pattern, word, detail)
    return detail


def check(name: str, answer: Any) -> None:
    """A problem has the keys, the type and the words of its example."""
    example = examples_of(name).answers[str(answer.status_code)]
    problem = answer.json()
    where = (name, answer.status_code, problem)
    assert problem.keys() == example.keys(), where
    assert [problem[key] for key in ("type", "title", "status")] == [
        example[key] for key in ("type", "title", "status")
    ], where
    assert wording(problem["detail"]) == wording(example["detail"]), where
    for one, other in zip(problem.get("results", ()), example.get("results", ()), strict=True):
        assert one.keys() == other.keys(), where
        assert one["status"] == other["status"], where
        assert wording(one["detail"]) == wording(other["detail"]), where


@pytest.fixture
def send(desk: Desk) -> Callable[..., Any]:
    def sent(name: str, method: str, path: str, who: str = "admin", **changed: Any) -> Any:
        body = examples_of(name).request
        body = body if body is None else body | changed
        return desk.endpoint.client.request(method, path, json=body, headers=desk.key(who))

    return sent


def test_what_is_not_there_is_a_404_as_its_example(desk: Desk, send: Callable[..., Any]) -> None:
    reads = {
        "decision": "decisions/none",
        "decision_explanation": "decisions/none/explanation",
        "get_account": "accounts/fund-12",
        "get_call": "calls/none",
        "get_instruction": "instructions/none",
        "get_command": "commands/none",
    }
    posts = {
        "acknowledge_call": "calls/none/ack",
        "dispute_call": "calls/none/dispute",
        "resolve_call": "calls/none/resolve",
        "acknowledge_instruction": "instructions/none/ack",
        "approve_override": "overrides/none/approve",
        "reject_override": "overrides/none/reject",
        "skip_delivery": "admin/deliveries/none/skip",
    }
    answers = {name: send(name, "GET", f"/v1/{path}") for name, path in reads.items()}
    answers |= {name: send(name, "POST", f"/v1/{path}") for name, path in posts.items()}
    answers["request_override"] = send(
        "request_override", "POST", "/v1/overrides", account_id="none"
    )
    answers["set_mode"] = send("set_mode", "POST", "/v1/admin/mode", symbol="NOPEUSDT")
    for name, answer in answers.items():
        assert answer.status_code == 404, (name, answer.text)
        check(name, answer)


def test_impossible_parameters_are_a_422_as_their_examples(
    send: Callable[..., Any],
) -> None:
    paths = {
        "account_decisions": "accounts/fund-1/decisions?limit=0",
        "list_accounts": "accounts?limit=0",
        "list_calls": "calls?limit=0",
        "list_instructions": "instructions?limit=0",
        "list_deliveries": "admin/deliveries?limit=0",
        "get_account": "accounts/fund-1%0A",
        "rules_in_force": "ruleset?as_of=yesterday",
    }
    for name, path in paths.items():
        answer = send(name, "GET", f"/v1/{path}")
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json() == examples_of(name).answers["422"]


def test_commands_that_come_again_are_a_409_as_their_examples(
    desk: Desk, send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Walk(desk, lambda name: examples_of(name).request).everything()
    call = done["list_calls"]["calls"][0]["call_id"]
    instruction = done["list_instructions"]["instructions"][0]["instruction_id"]
    with desk.leading():
        override = send("request_override", "POST", "/v1/overrides", "approve").json()
    _add_pending(desk, f"{call}-2")
    monkeypatch.setattr(control_state, "MOST_MARKETS", 0)
    again = {
        "acknowledge_call": f"calls/{call}/ack",
        "dispute_call": f"calls/{call}/dispute",
        "resolve_call": f"calls/{call}/resolve",
        "acknowledge_instruction": f"instructions/{instruction}/ack",
        "request_override": "overrides",
        "set_mode": "admin/mode",
        "skip_delivery": f"admin/deliveries/{call}-2/skip",
    }
    answers = {name: send(name, "POST", f"/v1/{path}") for name, path in again.items()}
    approval = f"/v1/overrides/{override['command_id']}/approve"
    answers["approve_override"] = send("approve_override", "POST", approval, "approve")
    answers["put_account"] = send("put_account", "PUT", "/v1/accounts/fund-10", sequence=2)
    later = [{**examples_of("post_updates").request["updates"][0], "sequence": 7}]
    answers["post_updates"] = send("post_updates", "POST", "/v1/accounts/updates", updates=later)
    for name, answer in answers.items():
        assert answer.status_code == 409, (name, answer.text)
        check(name, answer)


def _add_pending(desk: Desk, event: str) -> None:
    row = {
        "event_id": event,
        "sink": "risk-desk",
        "account_id": "fund-7",
        "sequence": 2,
        "status": "pending",
        "created_at": desk.now(),
        "body": b"",
        "attempts": 0,
        "next_attempt_at": desk.now(),
        "detail": "",
    }
    with writing(desk.endpoint.ledger.engine) as connection:
        connection.execute(insert(outbox), [row])


def test_an_override_that_has_expired_is_a_409_as_its_example(
    desk: Desk, send: Callable[..., Any]
) -> None:
    desk.watched.update(snapshot("fund-8", 1, 1e6, BTC=0.1))
    desk.watched.settle()
    with desk.leading():
        asked = send("request_override", "POST", "/v1/overrides", expires=desk.later(2)).json()
    bars = desk.endpoint.market.bars(range(ROWS, ROWS + 3))
    posted = desk.post("/v1/market/bars", {"interval": "1h", "bars": bars}, "market")
    assert posted.status_code == 200, posted.text
    answer = send("reject_override", "POST", f"/v1/overrides/{asked['command_id']}/reject")
    assert answer.status_code == 409, answer.text
    check("reject_override", answer)


def test_no_champion_no_bundle_and_no_rules_answer_as_their_examples(
    serve: Serve,
    bundles: Bundles,
    champion: str,
    account: dict[str, Any],
    ruleset: RuleSet,
    market: Any,
) -> None:
    begin = int(market.panel.closes[-1]) - DAY
    rules = RuleHistory.of([version(ruleset, "1", begin, None)])
    decided = serve(rules=rules).score(account).json()["decisions"][0]
    shutil.rmtree(bundles.root)
    bundles.root.mkdir()
    client = serve(rules=rules).client
    answers = {
        "model": client.get("/v1/model"),
        "rules_in_force": client.get("/v1/ruleset?as_of=2019-01-01T00:00:00Z"),
    }
    assert [answer.status_code for answer in answers.values()] == [404, 404]
    explained = client.get(f"/v1/decisions/{decided['decision_id']}/explanation")
    assert explained.status_code == 409
    for name, answer in (answers | {"decision_explanation": explained}).items():
        check(name, answer)


def test_problems_of_all_routes_are_as_their_examples(
    desk: Desk, send: Callable[..., Any], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, score = desk.endpoint.client, examples_of("score").request
    unknown = {"Authorization": "Bearer mck_no_key"}
    text = desk.key("score") | {"Content-Type": "text/plain"}
    kept = desk.key("score") | {"Idempotency-Key": "order-17"}
    assert client.post("/v1/score", json=score, headers=kept).status_code == 200
    answers = {
        401: client.get("/v1/model", headers=unknown),
        403: client.post("/v1/score", json=score, headers=desk.key("read")),
        409: client.post("/v1/score", json=score | {"explain": True}, headers=kept),
        413: serve(max_body_bytes=16).client.post("/v1/score", json=score),
        415: client.post("/v1/score", json=score, headers=text),
        422: desk.post("/v1/score", {"accounts": [{"account_id": "fund-1"}]}, "score"),
    }
    limited = serve(auth="keys", rate_per_minute=1)
    key = limited.key("read")
    answers[429] = [limited.client.get("/v1/model", headers=key) for _ in range(2)][1]

    def fail(_: Service) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(Service, "model", fail)
    answers[503] = client.get("/v1/model", headers=desk.key("read"))
    assert {str(status) for status in answers} | {"202"} == examples_of(COMMON).answers.keys()
    for status, answer in answers.items():
        assert answer.status_code == status
        check(COMMON, answer)
    waiting = send("set_mode", "POST", "/v1/admin/mode")
    assert waiting.status_code == 202
    example = examples_of(COMMON).answers["202"]
    assert waiting.json() | {"command_id": ""} == example | {"command_id": ""}
