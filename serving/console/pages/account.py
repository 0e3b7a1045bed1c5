"""One account of the live book."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from serving.console.console import FRAGMENT, Console, ConsoleRequest
from serving.console.page_route import page_route
from serving.console.views.accounts.account import account_view, standing_view
from serving.telemetry.exchange import withhold_accounts


@page_route("/account")
async def account(
    request: ConsoleRequest,
    console: NamedDependency[Console],
    account_id: Annotated[str, QueryParameter(name="id")],
    before: FromQuery[int | None] = None,
    prices: FromQuery[bool] = False,
    history: FromQuery[bool] = False,
) -> Response[bytes]:
    """One account; with ``prices=1`` also its liquidation prices, in the lane of explanations, and
    with ``history=1`` the levels of the newest evaluations, in that of what-ifs."""
    withhold_accounts(lambda: (account_id,))
    service, listing = console.service, console.accounts
    if request.headers.get(FRAGMENT) == "standing":  # refreshed often: nothing else is computed
        return await console.page(
            request, "account.html", lambda: standing_view(service, listing, account_id)
        )
    slow = console.lanes.explain if prices else None
    return await console.page(
        request,
        "account.html",
        lambda: account_view(service, listing, account_id, before, prices=prices, history=history),
        console.lanes.what_if if history else slow,
    )
