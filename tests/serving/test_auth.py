from __future__ import annotations

import logging
import re
import time
from typing import Any

import pytest

from ledger.keys import SCOPES, Keys
from market.core.clock import HOUR

ROUTES = {
    ("POST", "/v1/score"): "score",
    ("POST", "/v1/what-if"): "score",
    ("POST", "/v1/market/bars"): "market",
    ("POST", "/v1/market/quotes"): "market",
    ("PUT", "/v1/accounts/x"): "accounts",
    ("POST", "/v1/accounts/updates"): "accounts",
    ("GET", "/v1/decisions/x"): "read",
    ("GET", "/v1/accounts/x/decisions"): "read",
    ("GET", "/v1/model"): "read",
    ("GET", "/v1/ruleset"): "read",
    ("GET", "/v1/calls"): "read",
    ("GET", "/v1/calls/x"): "read",
    ("POST", "/v1/calls/x/ack"): "venue",
    ("POST", "/v1/calls/x/dispute"): "accounts",
    ("POST", "/v1/calls/x/resolve"): "approve",
    ("GET", "/v1/commands/x"): "read",
    ("GET", "/v1/instructions"): "read",
    ("GET", "/v1/instructions/x"): "read",
    ("POST", "/v1/instructions/x/ack"): "venue",
    ("GET", "/v1/overrides"): "read",
    ("POST", "/v1/overrides"): "approve",
    ("POST", "/v1/overrides/x/approve"): "approve",
    ("POST", "/v1/overrides/x/reject"): "approve",
    ("GET", "/v1/admin/mode"): "read",
    ("GET", "/v1/admin/deliveries"): "read",
}
FOR_ADMINS = ("/v1/admin/mode", "/v1/admin/deliveries/x/skip")
OPEN = ("/health/live", "/health/ready", "/metrics", "/docs", "/docs/openapi.json")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_needs_a_key_with_its_scope(serve: Any, method: str, path: str) -> None:
    endpoint, needed = serve(auth="keys"), ROUTES[method, path]

    def status(headers: dict[str, str]) -> int:
        return int(endpoint.client.request(method, path, headers=headers).status_code)

    assert status({}) == 401
    for scope in ("score", "market", "accounts", "read", "venue", "approve"):
        assert (status(endpoint.key(scope)) == 403) == (scope != needed)
    assert status(endpoint.key("admin")) not in (401, 403)


@pytest.mark.parametrize("path", FOR_ADMINS)
def test_some_routes_need_the_scope_admin(serve: Any, path: str) -> None:
    endpoint = serve(auth="keys")
    every_other = endpoint.key(*(scope for scope in SCOPES if scope != "admin"))
    body = {"mode": "normal", "reason": "", "sink": ""}
    assert endpoint.client.post(path, json=body, headers=every_other).status_code == 403
    assert endpoint.client.post(path, json=body, headers=endpoint.key("admin")).status_code == 422


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer mck_x_y", "Basic abc", "mck_a_b", "Bearer é"]
)
def test_malformed_keys_are_401_with_a_challenge(serve: Any, header: str) -> None:
    response = serve(auth="keys").client.get(
        "/v1/ruleset", headers={"Authorization": header.encode()}
    )
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["type"] == "urn:margincast:problem:unauthenticated"


def test_a_revoked_key_is_useless_at_once(serve: Any) -> None:
    endpoint = serve(auth="keys")
    key_id, secret = Keys(endpoint.ledger).add_key(["read"])
    headers = {"authorization": f"bearer {secret}"}
    assert endpoint.client.get("/v1/ruleset", headers=headers).status_code == 200
    Keys(endpoint.ledger).revoke(key_id)
    assert endpoint.client.get("/v1/ruleset", headers=headers).status_code == 401


def test_a_body_is_not_read_without_a_key(serve: Any) -> None:
    endpoint = serve(auth="keys", max_body_bytes=10)
    assert endpoint.client.post("/v1/score", content=b"x" * 100).status_code == 401


def test_health_metrics_and_docs_need_no_key(serve: Any) -> None:
    client = serve(auth="keys").client
    assert {client.get(path).status_code for path in OPEN} == {200}


@pytest.mark.parametrize("metrics_auth", [False, True])
def test_the_documentation_asks_for_a_key_where_the_endpoint_does(
    serve: Any, metrics_auth: bool
) -> None:
    client = serve(auth="keys", metrics_auth=metrics_auth).client
    document = client.get("/docs/openapi.json").json()
    needs_key = {
        (path, method): document["security"] if "security" not in route else route["security"]
        for path, item in document["paths"].items()
        for method, route in item.items()
    }
    for (path, method), needed in needs_key.items():
        status = client.request(method, re.sub(r"\{\w+\}", "0" * 32, path)).status_code
        assert (status == 401) == (needed != []), path
    assert (needs_key["/metrics", "get"] == []) == (not metrics_auth)


def test_two_owners_never_share_an_idempotency_key(serve: Any, account: dict[str, Any]) -> None:
    endpoint = serve(auth="keys")
    body = {"accounts": [account]}
    answers = [
        endpoint.client.post(
            "/v1/score", json=body, headers=endpoint.key("score") | {"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content != answers[1].content


def test_metrics_need_the_scope_read_where_they_are_said_to(serve: Any) -> None:
    endpoint = serve(auth="keys", metrics_auth=True)

    def status(headers: dict[str, str]) -> int:
        return int(endpoint.client.get("/metrics", headers=headers).status_code)

    assert status({}) == 401
    assert status(endpoint.key("score")) == 403
    assert status(endpoint.key("read")) == 200
    assert endpoint.client.get("/health/ready").status_code == 200


def test_an_expired_key_is_401_and_says_so(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = serve(auth="keys")
    key_id, secret = Keys(endpoint.ledger).add_key(["read"], lifetime=HOUR)
    headers = {"authorization": f"Bearer {secret}"}
    assert endpoint.client.get("/v1/ruleset", headers=headers).status_code == 200
    later = time.time_ns() + HOUR
    monkeypatch.setattr("ledger.keys.time.time_ns", lambda: later)
    answer = endpoint.client.get("/v1/ruleset", headers=headers)
    assert answer.status_code == 401
    assert f"key {key_id} expired at" in answer.json()["detail"]


def test_no_secret_reaches_a_log_or_an_answer(
    serve: Any, account: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = serve(auth="keys")
    caplog.set_level(logging.DEBUG)
    _, secret = Keys(endpoint.ledger).add_key(["score"])
    headers = {"authorization": f"Bearer {secret}"}
    answers = [
        endpoint.client.post("/v1/score", json={"accounts": [account]}, headers=headers),
        endpoint.client.post("/v1/score", json={"accounts": []}, headers=headers),
        endpoint.client.get("/v1/model", headers=headers),
        endpoint.client.get("/v1/model", headers={"authorization": f"Basic {secret}"}),
        endpoint.client.get("/v1/model", headers={"authorization": f"Bearer {secret}x"}),
    ]
    with endpoint.ledger.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO lost")
    answers.append(endpoint.client.get("/v1/model", headers=headers))
    assert [answer.status_code for answer in answers] == [200, 422, 403, 401, 401, 503]
    token = secret.split("_", 2)[2]
    assert "the ledger failed" in caplog.text
    for text in (caplog.text, *(f"{answer.text} {answer.headers}" for answer in answers)):
        assert token not in text
