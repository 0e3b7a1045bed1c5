"""The market page: what the live market holds."""

from __future__ import annotations

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.market import market_content


@page_route("/market")
async def market(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    symbol: FromQuery[str | None] = None,
) -> Response[bytes]:
    """The page; `symbol` is the one of its charts."""
    return await console.page(
        request, "market.html", lambda: market_content(console, symbol or None)
    )
