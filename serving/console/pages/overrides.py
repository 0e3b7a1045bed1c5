"""Overrides, modes and dead notifications."""

from __future__ import annotations

from litestar import Response
from litestar.di import NamedDependency

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.calls import overrides_content


@page_route("/overrides")
async def overrides(request: ConsoleRequest, console: NamedDependency[Console]) -> Response[bytes]:
    """Overrides that are pending or active, modes in force, dead notifications."""
    return await console.page(request, "overrides.html", lambda: overrides_content(console))
