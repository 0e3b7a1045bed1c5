"""The accounts of the live book: sorted, filtered, searched, page by page."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from serving.console.console import Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.accounts.listing import PATH, AccountsQuery, accounts_view
from serving.telemetry.exchange import withhold_accounts


def _query(
    search: FromQuery[str] = "",
    account_state: Annotated[str, QueryParameter(name="state")] = "",
    standing: FromQuery[str] = "",
    percent: FromQuery[str] = "",
    sort: FromQuery[str] = "deposit_to_meet",
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str] = "",
) -> AccountsQuery:
    return AccountsQuery(search, account_state, standing, percent, sort, limit, cursor)


@page_route(PATH, filters=_query)
async def accounts(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    filters: NamedDependency[AccountsQuery],
) -> Response[bytes]:
    """The accounts of the live book."""
    if filters.search:
        withhold_accounts(lambda: (filters.search,))
    listing, horizons = console.accounts, console.service.horizons
    return await console.page(
        request, "accounts.html", lambda: accounts_view(listing, filters, horizons())
    )
