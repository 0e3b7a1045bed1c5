from __future__ import annotations

from typing import Any

import pytest

from ledger.keys import Keys

ROUTES = {
    ("POST", "/v1/score"): "score",
    ("POST", "/v1/what-if"): "score",
    ("POST", "/v1/market/bars"): "market",
    ("POST", "/v1/market/quotes"): "market",
    ("GET", "/v1/decisions/x"): "read",
    ("GET", "/v1/accounts/x/decisions"): "read",
    ("GET", "/v1/model"): "read",
    ("GET", "/v1/ruleset"): "read",
}
OPEN = ("/health/live", "/health/ready", "/metrics", "/docs", "/docs/openapi.json")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_needs_a_key_with_its_scope(serve: Any, method: str, path: str) -> None:
    endpoint, needed = serve(auth="keys"), ROUTES[method, path]

    def status(headers: dict[str, str]) -> int:
        return int(endpoint.client.request(method, path, headers=headers).status_code)

    assert status({}) == 401
    for scope in ("score", "market", "read"):
        assert (status(endpoint.key(scope)) == 403) == (scope != needed)
    assert status(endpoint.key("admin")) not in (401, 403)


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
