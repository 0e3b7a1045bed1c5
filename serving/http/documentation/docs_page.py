"""The page at /docs: Swagger UI over the OpenAPI document, from files of this installation."""

from __future__ import annotations

from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

from serving.console.assets import asset


class DocsPage(OpenAPIRenderPlugin):
    """Routes and schemas to read and to try out; every file comes from this endpoint."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page of an OpenAPI document; its script reads the document itself."""
        title = escape(openapi_schema["info"]["title"])
        source = escape(self.get_openapi_json_route(request))
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}: HTTP API</title>"
            f'<link rel="icon" type="image/svg+xml" href="{asset("icon.svg").path}">'
            f'<link rel="stylesheet" href="{asset("swagger-ui.css").path}">'
            f'<link rel="stylesheet" href="{asset("docs.css").path}">'
            f'<script src="{asset("swagger-ui-bundle.js").path}" defer></script>'
            f'<script src="{asset("docs.js").path}" defer></script></head><body>'
            f"<main><h1>{title}: HTTP API</h1>"
            f'<div id="swagger-ui" data-document="{source}"></div></main>'
            f'<noscript>This page needs scripts; the <a href="{source}">OpenAPI document</a> '
            "says the same.</noscript></body></html>"
        ).encode()
