"""The reference of the HTTP API, from the OpenAPI document that the endpoint serves at /docs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ledger.store import Ledger
from pipelines.config.config import Config
from pipelines.config.sections import ServingConfig, SimulateConfig
from pipelines.data.loaders import read_rule_history
from pipelines.jobs.serve import live_market
from research.pages.markdown import table
from serving.http.app import create_app
from serving.settings import ServingSettings

_METHODS = ("get", "put", "post", "delete", "patch")


def http_api() -> str:
    """Markdown: every route, then every schema that a route takes or answers."""
    document = openapi_document()
    operations = list(routes(document))
    rows = [
        (f"[`{method.upper()} {path}`](#{_anchor(method, path)})", _line(operation.get("summary")))
        for method, path, operation in operations
    ]
    parts = ["## Routes", table(("route", "does"), rows)]
    for method, path, operation in operations:
        parts += _route(method, path, operation)
    parts.append("## Schemas")
    for name, schema in sorted(document["components"].get("schemas", {}).items()):
        parts += _schema(name, schema)
    return "\n\n".join(parts)


def openapi_document() -> dict[str, Any]:
    """The document of an endpoint on a small simulated market."""
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}", chain="serving") as ledger,
    ):
        config = Config(
            simulate=SimulateConfig(days=12, symbols=2),
            serving=ServingConfig(bundles=Path(folder), auth="off", clock="market"),
        )
        settings = ServingSettings("127.0.0.1", 1, Path(folder), clock="market", auth="off")
        live = live_market(config, ledger)
        app = create_app(settings, ledger, read_rule_history(config), live)
        document: dict[str, Any] = app.openapi_schema.to_schema()
    return document


def routes(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and operation of every route, sorted by path."""
    for path, item in sorted(document["paths"].items()):
        for method in _METHODS:
            if method in item:
                yield method, path, item[method]


def _anchor(method: str, path: str) -> str:
    return "-".join([method, *(word.strip("{}") for word in path.split("/") if word)])


def _route(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path} {{ #{_anchor(method, path)} }}"
    for text in (operation.get("summary"), operation.get("description")):
        if text:
            yield _prose(text)
    if operation.get("security") == []:
        yield "Needs no key."
    parameters = [
        (
            f"`{each['name']}`",
            each["in"],
            _shape(each.get("schema", {})),
            _line(each.get("description")),
        )
        for each in operation.get("parameters", ())
    ]
    if parameters:
        yield table(("parameter", "in", "type", "meaning"), parameters)
    content = operation.get("requestBody", {}).get("content", {})
    for media, body in content.items():
        yield f"Body (`{media}`): {_shape(body.get('schema', {}))}"
        yield from _examples("Example of a request", body)
    yield table(
        ("status", "answer", "meaning"),
        [
            (status, _answer(response), _line(response.get("description")))
            for status, response in sorted(operation.get("responses", {}).items())
        ],
    )
    for status, response in sorted(operation.get("responses", {}).items()):
        if status.startswith("2"):
            for body in response.get("content", {}).values():
                yield from _examples("Example of an answer", body)


def _examples(title: str, body: Mapping[str, Any]) -> Iterator[str]:
    """The first example of a body, a named one or a bare one, or of a schema."""
    found = body.get("examples") or []
    values = [body["example"]] if "example" in body else []
    if isinstance(found, Mapping):
        values += [each["value"] for each in found.values() if "value" in each]
    else:
        values += found
    for value in values[:1]:
        text = value if isinstance(value, str) else json.dumps(value, indent=2, default=str)
        yield f"{title}:\n\n```json\n{text}\n```"


def _answer(response: Mapping[str, Any]) -> str:
    found = [_shape(body.get("schema", {})) for body in response.get("content", {}).values()]
    return ", ".join(dict.fromkeys(found))


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {_title(name, schema)} {{ #{_schema_anchor(name)} }}"
    if schema.get("description"):
        yield _prose(schema["description"])
    properties = schema.get("properties")
    if not properties:
        yield _shape(schema)
        yield from _examples("Example", schema)
        return
    required = set(schema.get("required", ()))
    yield table(
        ("field", "type", "required", "meaning"),
        [
            (
                f"`{key}`",
                _shape(field),
                "yes" if key in required else "",
                _line(field.get("description")),
            )
            for key, field in properties.items()
        ],
    )
    yield from _examples("Example", schema)


def _title(name: str, schema: Mapping[str, Any]) -> str:
    return str(schema.get("title") or name)


def _schema_anchor(name: str) -> str:
    return "schema-" + name.replace(".", "-").replace("_", "-").lower()


def _shape(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name.rpartition('_')[2]}](#{_schema_anchor(name)})"
    for key in ("oneOf", "anyOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_shape(each) for each in schema[key]))
    if "enum" in schema:
        return "one of " + ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_shape(schema['additionalProperties'])}"
    form = schema.get("format")
    return str(kind or "any value") + (f" ({form})" if form else "")


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(block.split()) for block in text.split("\n\n"))
