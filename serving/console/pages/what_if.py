"""The what-if page: how an account would stand after changes and shocks."""

from __future__ import annotations

from litestar import Response
from litestar.di import NamedDependency

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.what_if import what_if_content
from serving.telemetry.exchange import withhold_accounts


@page_route("/what-if")
async def what_if(request: ConsoleRequest, console: NamedDependency[Console]) -> Response[bytes]:
    """The page; its inputs are those of `serving.console.views.what_if_inputs`."""
    query = {name: values[-1] for name, values in request.query_params.dict().items()}
    account_id = query.get("account", "")
    if account_id:
        withhold_accounts(lambda: (account_id,))
    lane = console.lanes.what_if if account_id else None
    return await console.page(
        request, "what_if.html", lambda: what_if_content(console, query), lane
    )
