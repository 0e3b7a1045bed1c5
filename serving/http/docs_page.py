"""The page at /docs: rendered from the OpenAPI document, so it works without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_METHODS = ("get", "post", "put", "patch", "delete")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; }
h1 small { font-weight: normal; color: #57606a; }
details { border: 1px solid #d0d7de; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #f6f8fa; padding: .8rem; border-radius: 6px; overflow-x: auto; }
.method { display: inline-block; min-width: 3.5rem; font-weight: bold; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
"""


class DocsPage(OpenAPIRenderPlugin):
    """Routes, parameters, bodies, answers and schemas on one page of plain HTML."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page of an OpenAPI document."""
        # Through JSON once: the framework's document still holds its own enumerations.
        document = json.loads(self.render_json(request, openapi_schema))
        return "".join(_page(document, self.get_openapi_json_route(request))).encode()


def _page(document: dict[str, Any], source: str) -> Iterator[str]:
    info = document["info"]
    title = escape(info["title"])
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield f"<title>{title}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{title} <small>{escape(info['version'])}</small></h1>"
    yield f"<p>{escape(info.get('description', ''))}</p>"
    yield f'<p>The same as <a href="{escape(source)}">OpenAPI document</a>.</p><h2>Routes</h2>'
    for path, item in sorted(document.get("paths", {}).items()):
        for method in _METHODS:
            if method in item:
                yield from _operation(method, path, item[method])
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code>'
        yield f" {escape(schema.get('description', ''))}</summary>{_json(schema)}</details>"
    yield "</body></html>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<details><summary><span class="method">{method.upper()}</span>'
    yield f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>Parameter</th><th>In</th><th>Description</th></tr>"
        for parameter in parameters:
            yield f"<tr><td><code>{escape(parameter['name'])}</code></td>"
            yield f"<td>{escape(parameter['in'])}</td>"
            yield f"<td>{escape(parameter.get('description', ''))}</td></tr>"
        yield "</table>"
    if "requestBody" in operation:
        yield f"<p>Body: {_content(operation['requestBody'])}</p>"
    yield "<table><tr><th>Status</th><th>Answer</th></tr>"
    for status, response in sorted(operation.get("responses", {}).items()):
        yield f"<tr><td>{escape(status)}</td><td>{_content(response)} "
        yield f"{escape(response.get('description', ''))}</td></tr>"
    yield "</table></details>"


def _content(part: dict[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media)}</code> {_reference(described.get('schema', {}))}"
        for media, described in part.get("content", {}).items()
    )


def _reference(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f'<a href="#{escape(name)}">{escape(name)}</a>' if name else ""


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
