"""The work list of calls."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.calls import OPEN_CHOICES, CallFilters, call_list
from serving.enforcement.stored_rows import check_choice
from serving.telemetry.exchange import withhold_accounts

CallState = Annotated[str, QueryParameter(name="state")]
CallType = Annotated[str, QueryParameter(name="type")]
IsOpen = Annotated[str, QueryParameter(name="open")]


def _filters(
    call_state: CallState = "",
    call_type: CallType = "",
    account: FromQuery[str] = "",
    is_open: IsOpen = "true",
    sort: FromQuery[str] = "due",
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> CallFilters:
    check_choice("open", is_open, OPEN_CHOICES)
    return CallFilters(call_state, call_type, account, is_open, sort, limit, cursor)


@page_route("/calls", filters=_filters)
async def calls(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    filters: NamedDependency[CallFilters],
) -> Response[bytes]:
    """The work list: calls by filters, the next deadline first."""
    if filters.account:
        withhold_accounts(lambda: (filters.account,))
    return await console.page(request, "calls.html", lambda: call_list(console, filters))
