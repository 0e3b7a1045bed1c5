"""One call."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.calls import call_content

CallId = Annotated[str, QueryParameter(name="id")]


@page_route("/call")
async def call(
    request: ConsoleRequest, console: NamedDependency[Console], call_id: CallId = ""
) -> Response[bytes]:
    """One call: its figures and record, and what may be done about it."""
    return await console.page(request, "call.html", lambda: call_content(console, call_id))
