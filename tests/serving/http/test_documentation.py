"""The OpenAPI document and the page at /docs, over every route that the document has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from serving.http.auth import SCOPES
from serving.http.documentation.route_docs import TAGS


@pytest.fixture
def routes(serve: Any) -> dict[str, dict[str, Any]]:
    document = serve().client.get("/docs/openapi.json").json()
    assert [tag["name"] for tag in document["tags"]] == list(TAGS)
    return {
        f"{method} {path}": route
        for path, item in document["paths"].items()
        for method, route in item.items()
    }


def test_every_route_has_a_name_a_summary_a_group_and_described_parameters(
    routes: dict[str, dict[str, Any]],
) -> None:
    assert len({route["operationId"] for route in routes.values()}) == len(routes)
    for name, route in routes.items():
        assert re.fullmatch(r"[a-z_]+", route["operationId"]), name
        assert " " in route["summary"], name
        assert route["summary"][0].isupper(), name
        assert route["summary"][-1] != ".", name
        assert route["description"], name
        assert set(route["tags"]) <= set(TAGS), name
        assert route["tags"], name
        for parameter in route.get("parameters", ()):
            assert parameter["description"], (name, parameter["name"])


def test_errors_are_documented_as_problems(routes: dict[str, dict[str, Any]]) -> None:
    for name, route in routes.items():
        for status, answer in route["responses"].items():
            if int(status) >= 400 and name != "get /health/ready":
                assert list(answer["content"]) == ["application/problem+json"], (name, status)


def test_the_files_of_the_page_are_served_packed_and_cached(serve: Any) -> None:
    client = serve(auth="keys").client
    page = client.get("/docs").text
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert {path.rpartition("/")[2] for path in files} == {
        "icon.svg",
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "docs.css",
        "docs.js",
    }
    for path in files:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/docs", "/health/live", "/v1/model", "/v1/accounts"])
def test_head_is_answered_as_get(serve: Any, path: str) -> None:
    client = serve().client
    assert client.head(path).status_code == client.get(path).status_code
    assert client.head("/v1/score").status_code == 405


def test_the_scope_of_each_route_is_the_one_that_a_key_needs(serve: Any) -> None:
    endpoint = serve(auth="keys")
    paths = endpoint.client.get("/docs/openapi.json").json()["paths"]
    other = {scope: endpoint.key("venue" if scope != "venue" else "read") for scope in SCOPES}
    for path, item in paths.items():
        for method, route in item.items():
            for scope in [name for need in route.get("security", ()) for name in need["key"]]:
                answer = endpoint.client.request(
                    method, re.sub(r"\{\w+\}", "none", path), headers=other[scope], json={}
                )
                assert answer.status_code == 403, (method, path)
                assert f"`{scope}`" in route["description"], (method, path)
                assert scope in answer.json()["detail"], (method, path)


def _properties(schema: Any, path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, name and schema of every property, at any depth."""
    if isinstance(schema, list):
        for one in schema:
            yield from _properties(one, path)
    if isinstance(schema, dict):
        for name, described in schema.get("properties", {}).items():
            yield f"{path}.{name}", name, described
        for key, one in schema.items():
            if key not in ("example", "examples"):
                yield from _properties(one, f"{path}.{key}")


def test_every_field_is_described(serve: Any) -> None:
    document = serve().client.get("/docs/openapi.json").json()
    fields = list(_properties(document, ""))
    assert len(fields) > 400
    for path, name, schema in fields:
        text = schema.get("description") or ""
        assert len(text) > len(name), path
        assert text[0].isupper() or text[0] in "`0123456789", path
        assert text.rstrip()[-1] == ".", path


def test_every_schema_has_words_for_a_title_and_a_description(serve: Any) -> None:
    schemas = serve().client.get("/docs/openapi.json").json()["components"]["schemas"]
    for name, schema in schemas.items():
        assert re.fullmatch(r"[A-Z][a-z]+( [a-z]+)*", schema["title"]), name
        assert schema["description"].split(), name
        assert name not in schema["description"], name
