"""Examples of the OpenAPI document: requests are accepted, and answers look like real ones."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serving.http.documentation.examples import COMMON, examples_of
from tests.serving.enforcement_fixtures import Desk, desk
from tests.serving.http.api_walk import Walk

__all__ = ["desk"]

Document = dict[str, Any]


@pytest.fixture
def document(desk: Desk) -> Document:
    return dict(desk.endpoint.client.get("/docs/openapi.json").json())


def routes(document: Document) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and operation by operationId."""
    return {
        route["operationId"]: (method, path, route)
        for path, item in document["paths"].items()
        for method, route in item.items()
    }


def media(described: dict[str, Any]) -> dict[str, Any]:
    (one,) = described["content"].values()
    return dict(one)


def resolved(document: Document, schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref")
    return schema if name is None else document["components"]["schemas"][name.rpartition("/")[2]]


def check_keys(document: Document, schema: dict[str, Any], example: Any, real: Any) -> None:
    """Where the schema names the fields, example and real answer have the same ones."""
    schema = resolved(document, schema)
    choices = [one for one in schema.get("oneOf", ()) if one.get("type") != "null"]
    if len(choices) == 1 and example is not None and real is not None:
        check_keys(document, choices[0], example, real)
    for name, inner in schema.get("properties", {}).items():
        assert (name in example) == (name in real), name
        if name in example:
            check_keys(document, inner, example[name], real[name])
    if "properties" in schema:
        assert example.keys() == real.keys()
    if schema.get("type") == "array":
        assert bool(example) == bool(real)
        if example:
            check_keys(document, schema["items"], example[0], real[0])


def test_every_route_accepts_its_example_and_answers_like_it(
    desk: Desk, document: Document
) -> None:
    answers = Walk(desk, lambda name: examples_of(name).request).everything()
    known = routes(document)
    assert answers.keys() == known.keys()
    for name, real in answers.items():
        described = media(known[name][2]["responses"]["200"])
        example = described["example"]
        assert type(example) is type(real), name
        if isinstance(real, dict):
            check_keys(document, described["schema"], example, real)
        else:
            assert example.splitlines()[0] in real


def test_every_example_is_in_the_document_and_fits_its_schema(document: Document) -> None:
    common = examples_of(COMMON).answers
    for name, (_, _, route) in routes(document).items():
        own = examples_of(name)
        bodies = {status: media(answer) for status, answer in route["responses"].items()}
        assert own.answers.keys() <= bodies.keys(), name
        assert ("requestBody" in route) == (own.request is not None), name
        expected = common | own.answers
        checked = [(status, body, expected[status]) for status, body in bodies.items()]
        if "requestBody" in route:
            checked.append(("request", media(route["requestBody"]), own.request))
        for status, body, example in checked:
            assert body["example"] == example, (name, status)
            schema = {**body["schema"], "components": document["components"]}
            faults = [fault.message for fault in Draft202012Validator(schema).iter_errors(example)]
            assert faults == [], (name, status)


def test_examples_of_problems_have_the_type_and_status_of_real_ones(
    desk: Desk, document: Document
) -> None:
    client = desk.endpoint.client
    for name, (method, path, route) in routes(document).items():
        if not path.startswith("/v1/"):
            continue
        body = examples_of(name).request
        nothing = re.sub(r"\{\w+\}", "none", path)
        admin = desk.key("admin")

        def answer(given: Any = body, **headers: str) -> Any:
            return client.request(method, nothing, json=given, headers=headers)  # noqa: B023

        real = [answer(), answer(**other_key(desk, route))]
        if body is not None:
            real += [answer(**admin, **{"Content-Type": "text/plain"}), answer([], **admin)]
        if "{" in path and "404" in route["responses"]:
            real.append(answer(**admin))
        assert [one.status_code for one in real[:2]] == [401, 403]
        for one in real:
            problem = one.json()
            example = media(route["responses"][str(one.status_code)])["example"]
            for field in ("type", "title", "status"):
                assert example[field] == problem[field], (name, one.status_code)


def other_key(desk: Desk, route: dict[str, Any]) -> dict[str, str]:
    (need,) = route["security"]
    return desk.key("venue" if need["key"] != ["venue"] else "read")
