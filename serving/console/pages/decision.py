"""One decision: what is on record of it, and its replay on demand."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.accounts.decision import decision_view


@page_route("/decision")
async def decision(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    decision_id: Annotated[str, QueryParameter(name="id")],
    replay: FromQuery[bool] = False,
) -> Response[bytes]:
    """One decision; with ``replay=1`` made again from its inputs, in the lane of explanations."""
    service = console.service
    return await console.page(
        request,
        "decision.html",
        lambda: decision_view(service, decision_id, replayed=replay),
        console.lanes.explain if replay else None,
    )
