"""What a foreign page can send is refused before anything of it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.http.security.request_checks import RequestChecks
from serving.settings import ServingSettings

BARS = "/v1/market/bars"


def posted(endpoint: Any, path: str, body: Any, headers: dict[str, str]) -> Any:
    return endpoint.client.post(path, content=json.dumps(body).encode(), headers=headers)


def kind(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"]).removeprefix("urn:margincast:problem:")


JSON = {"content-type": "application/json"}
PAGE = [
    ({"origin": "https://evil.example"}, 403, "origin-refused"),
    ({"origin": "null"}, 403, "origin-refused"),
    ({"origin": "http://127.0.0.1:9999"}, 403, "origin-refused"),
    ({"origin": "https://127.0.0.1:8000"}, 403, "origin-refused"),
    ({"host": "evil.example"}, 403, "host-refused"),
    ({"host": "evil.example:8000", "origin": "http://evil.example:8000"}, 403, "host-refused"),
    ({"host": "127.0.0.1.evil.example"}, 403, "host-refused"),
    ({"host": "localhost:8000:1"}, 403, "host-refused"),
    ({"host": "[::1"}, 403, "host-refused"),
    ({"content-type": "text/plain"}, 415, "unsupported-media-type"),
    ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
    (
        {"content-type": "multipart/form-data; boundary=application/json"},
        415,
        "unsupported-media-type",
    ),
    ({"content-type": "application/json; charset=utf-16"}, 415, "unsupported-media-type"),
    ({"content-type": ""}, 415, "unsupported-media-type"),
]


@pytest.mark.parametrize(("headers", "status", "problem"), PAGE)
def test_with_auth_off_a_foreign_page_posts_nothing(
    serve: Any,
    market: Any,
    account: dict[str, Any],
    headers: dict[str, str],
    status: int,
    problem: str,
) -> None:
    endpoint = serve(market.head(200))
    newest = endpoint.live.newest_close
    bodies = {
        BARS: {"interval": "1h", "bars": market.bars(range(200, 201))},
        "/v1/score": {"accounts": [account]},
        "/v1/score/": {"accounts": [account]},
        "/v1/what-if": {"accounts": [account]},
        "/v1/market/quotes": {"quotes": [{"instrument": "BTCUSDT", "mark": 1.0}]},
    }
    for path, body in bodies.items():
        answer = posted(endpoint, path, body, JSON | headers)
        assert (answer.status_code, kind(answer)) == (status, problem)
        assert "access-control-allow-origin" not in answer.headers
    assert endpoint.live.newest_close == newest
    assert not [*endpoint.ledger.records("bars"), *endpoint.ledger.records("quotes")]


def test_a_body_without_a_type_is_refused_of_a_page_alone(
    serve: Any, account: dict[str, Any]
) -> None:
    """A page can leave the type out, but its browser adds the origin."""
    body = {"accounts": [account]}
    endpoint = serve()
    assert posted(endpoint, "/v1/score", body, {}).status_code == 200
    refused = posted(endpoint, "/v1/score", body, {"origin": "https://evil.example"})
    assert (refused.status_code, kind(refused)) == (403, "origin-refused")
    keyed = serve(auth="keys")
    assert posted(keyed, "/v1/score", body, keyed.key("score")).status_code == 200
    form = keyed.key("score") | {"content-type": "application/x-www-form-urlencoded"}
    assert posted(keyed, "/v1/score", body, form).status_code == 415


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": 'Application/JSON;charset="UTF-8"'},
        {"host": "localhost:8000"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:8000"},
        {"host": "127.8.9.10"},
        {"host": "risk.internal:443"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://localhost:8000", "host": "localhost:8000"},
        {"origin": "https://desk.example"},
    ],
)
def test_own_clients_and_configured_ones_are_answered(
    serve: Any, account: dict[str, Any], headers: dict[str, str]
) -> None:
    endpoint = serve(hosts=("risk.internal",), origins=("https://desk.example",))
    answer = posted(endpoint, "/v1/score", {"accounts": [account]}, JSON | headers)
    assert answer.status_code == 200


def test_with_keys_hosts_count_once_they_are_given_but_not_of_probes(serve: Any) -> None:
    anywhere, named = serve(auth="keys"), serve(auth="keys", hosts=("risk.internal",))
    foreign = {"host": "10.1.2.3:8000"}
    assert anywhere.client.get("/v1/model", headers=foreign).status_code == 401
    assert kind(named.client.get("/v1/model", headers=foreign)) == "host-refused"
    for path in ("/health/live", "/health/ready"):
        assert named.client.get(path, headers=foreign).status_code == 200
    assert kind(named.client.get("/health/other", headers=foreign)) == "host-refused"


def test_only_a_configured_origin_may_read_answers(serve: Any, account: dict[str, Any]) -> None:
    desk = {"origin": "https://desk.example"}
    ask = {"access-control-request-method": "POST"}
    plain = serve().client.options("/v1/score", headers=desk | ask)
    assert plain.status_code == 403
    assert not [name for name in plain.headers if name.startswith("access-control")]
    client = serve(origins=("https://desk.example",)).client
    preflight = client.options("/v1/score", headers=desk | ask)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == desk["origin"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for path in ("/v1/score", "/v1/score/"):
        answer = client.post(path, json={"accounts": [account]}, headers=desk)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == desk["origin"]
        assert answer.headers["vary"] == "Origin"
        own = client.post(path, json={"accounts": [account]})
        assert "access-control-allow-origin" not in own.headers
    assert client.get("/v1/model", headers={"origin": "https://evil.example"}).status_code == 403


def test_two_hosts_are_no_host(serve: Any) -> None:
    hosts = [("host", "localhost"), ("host", "evil.example")]
    assert kind(serve().client.get("/v1/model", headers=hosts)) == "host-refused"


def test_a_refused_request_is_counted(serve: Any) -> None:
    client = serve().client
    client.get("/v1/model", headers={"host": "evil.example"})
    lines = client.get("/metrics").text.splitlines()
    line = 'margincast_requests_total{method="GET",route="unmatched",status="403"} 1.0'
    assert line in lines
    assert 'margincast_refused_total{reason="host-refused"} 1.0' in lines


TWICE = [
    (
        "/v1/score",
        '{{"accounts": [{account}], "accounts": [{account}]}}',
        "'accounts' twice",
        "`$`",
    ),
    ("/v1/score", '{{"accounts": [{{"cash": 1e9, {inner}}}]}}', "'cash' twice", "`$.accounts[0]`"),
    (
        "/v1/what-if",
        '{{"accounts": [{{"cash": 1e9, {inner}}}]}}',
        "'cash' twice",
        "`$.accounts[0]`",
    ),
    (
        "/v1/score",
        '{{"accounts": [{{"history": {{"a": 1, "a": 2}}, {inner}}}]}}',
        "'a'",
        ".history`",
    ),
    (
        BARS,
        '{{"interval": "1h", "bars": [{bar}], "interv\\u0061l": "1h"}}',
        "'interval' twice",
        "`$`",
    ),
    (
        "/v1/market/quotes",
        '{{"quotes": [{{"instrument": "B", "mark": 1, "mark": 2}}]}}',
        "'mark'",
        "[0]`",
    ),
]


@pytest.mark.parametrize(("path", "body", "key", "place"), TWICE)
def test_a_key_that_is_named_twice_is_refused_by_name_and_path(
    serve: Any, market: Any, account: dict[str, Any], path: str, body: str, key: str, place: str
) -> None:
    text = json.dumps(account)
    content = body.format(account=text, inner=text[1:-1], bar=json.dumps(market.bar(0, 0)))
    answer = serve().client.post(path, content=content.encode(), headers=JSON)
    assert (answer.status_code, kind(answer)) == (422, "invalid-request")
    assert key in answer.json()["detail"]
    assert place in answer.json()["detail"]


@pytest.mark.parametrize(
    "history",
    [
        b'{"\xff":1,"\xff":2}',
        b'{"\xff":{"a":1,"a":2}}',
        b'{"\xe2\x82":1,"\xe2\x82":1}',
        b'{"\xed\xa0\x80":{"a":1,"a":2}}',
    ],
)
def test_a_repeated_key_that_is_no_utf8_is_422(
    serve: Any, account: dict[str, Any], history: bytes
) -> None:
    text = json.dumps(account).encode()
    content = b'{"accounts": [{"history": ' + history + b", " + text[1:] + b"]}"
    answer = serve().client.post("/v1/score", content=content, headers=JSON)
    assert (answer.status_code, kind(answer)) == (422, "invalid-request")
    assert "not JSON" in answer.json()["detail"]


def test_objects_that_refuse_unknown_fields_say_so_in_the_document(serve: Any) -> None:
    document = serve().client.get("/docs/openapi.json").json()
    schemas = document["components"]["schemas"]
    asked: set[str] = set()

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name and name not in asked:
                asked.add(name)
                follow(schemas[name])
            for inner in value.values():
                follow(inner)
        elif isinstance(value, list):
            for inner in value:
                follow(inner)

    for item in document["paths"].values():
        follow(item.get("post", {}).get("requestBody", {}))
    assert {"ScoreRequest", "AccountIn", "PositionIn", "BarIn", "QuoteIn", "SviIn"} <= asked
    assert {
        name for name in asked if schemas[name].get("additionalProperties") is not False
    } == set()
    assert "additionalProperties" not in schemas["ScoreResponse"]


@pytest.mark.parametrize("name", [b"idempotency-key", b"authorization", b"request-timeout"])
def test_a_header_with_one_value_is_refused_where_it_is_given_twice(
    tmp_path: Path, name: bytes
) -> None:
    checks = RequestChecks(ServingSettings("127.0.0.1", 8000, tmp_path, "market", "off"))
    headers = [(b"host", b"localhost"), (name, b"1")]
    scope = {"method": "POST", "path": "/v1/score", "headers": headers}
    assert checks.refusal(scope) is None
    answer = checks.refusal({**scope, "headers": [*headers, (name, b"2")]})
    assert answer is not None
    problem = json.loads(answer.body)
    assert (answer.status, problem["type"]) == (400, "urn:margincast:problem:bad-request")
    assert f"{name.decode()} is given twice" in problem["detail"]
