"""Routes of the live book: snapshots and changes of accounts."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, post, put
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from monitoring.book.messages import (
    AccountSnapshotIn,
    UpdateResult,
    UpdatesRequest,
    UpdatesResponse,
)
from serving.account_filter import AccountFilter
from serving.account_listing import AccountListing, PageRequest
from serving.admission.lanes import Lanes
from serving.book_updates import BookUpdates
from serving.http.auth import requires
from serving.http.documentation.route_docs import (
    POST_PROBLEMS,
    DocumentedOperation,
    needs,
    problems,
)
from serving.http.handlers import look_up, read_route
from serving.http.problems import json_response
from serving.http.strict_body import Encoded, StrictBody
from serving.recorded_decisions import check_account_id
from serving.schemas.account_messages import AccountDetail, AccountPage
from serving.service import Service
from serving.telemetry.exchange import withhold_accounts


@put(
    "/v1/accounts/{account_id:str}",
    dto=StrictBody[AccountSnapshotIn],
    return_dto=None,
    guards=[requires("accounts")],
    security=needs("accounts"),
    status_code=HTTP_200_OK,
    responses=problems(*POST_PROBLEMS, 409),
    operation_class=DocumentedOperation,
)
async def put_account(
    account_id: FromPath[str],
    data: JSONBody[Encoded[AccountSnapshotIn]],
    request: Request[str, Any, State],
    book_updates: NamedDependency[BookUpdates],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[UpdateResult]:
    """Give a full snapshot of an account; it is on record when the answer leaves.

    It counts if its `sequence` is above that of the account, and is acknowledged as a duplicate
    else. The id is URL-encoded and may hold slashes, encoded or not.
    """
    name = unquote(account_id)
    withhold_accounts(lambda: (name,))

    def apply() -> bytes:
        check_account_id(name)
        update = data.decode().update(name)
        return msgspec.json.encode(book_updates.apply([update], request.user)[0])

    return json_response(await lanes.accounts.run(apply, service.settings.call_seconds))


@post(
    "/v1/accounts/updates",
    dto=StrictBody[UpdatesRequest],
    return_dto=None,
    guards=[requires("accounts")],
    security=needs("accounts"),
    status_code=HTTP_200_OK,
    responses=problems(*POST_PROBLEMS, 409),
    operation_class=DocumentedOperation,
)
async def post_updates(
    data: JSONBody[Encoded[UpdatesRequest]],
    request: Request[str, Any, State],
    book_updates: NamedDependency[BookUpdates],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[UpdatesResponse]:
    """Give snapshots and changes of accounts, in the order in which they are to count.

    The changes of an account (fills, deposits, withdrawals, funding payments, transfers) are
    numbered without gaps; where a number is missing the account is out of sync until a snapshot
    arrives. 200 where every update is applied or a duplicate; else a problem whose `results` say
    what became of each: those that are applied count.
    """

    def apply() -> bytes:
        updates = data.decode().updates
        withhold_accounts(lambda: (update.account_id for update in updates))
        return msgspec.json.encode(UpdatesResponse(book_updates.apply(updates, request.user)))

    return json_response(await lanes.accounts.run(apply, service.settings.call_seconds))


def account_filter(
    search: FromQuery[str | None] = None,
    in_sync: FromQuery[bool | None] = None,
    suspect: FromQuery[bool | None] = None,
    problem: FromQuery[bool | None] = None,
    least_probability: FromQuery[float | None] = None,
) -> AccountFilter:
    """The conditions of a query."""
    return AccountFilter(search, in_sync, suspect, problem, least_probability)


@read_route("/v1/accounts", 422, filters=account_filter)
async def list_accounts(
    account_listing: NamedDependency[AccountListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    filters: NamedDependency[AccountFilter],
    sort: FromQuery[str] = "deposit_to_meet",
    account_state: Annotated[str | None, QueryParameter(name="state")] = None,
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Response[AccountPage]:
    """Accounts of the live book, the most pressing first; `cursor` is `next_cursor` or
    `previous_cursor` of a page.

    `sort` is deposit_to_meet, margin_ratio, equity or probability (the largest first), headroom
    (the smallest first) or account_id. Only accounts are answered that meet every condition given:
    `state` is a state of the life cycle, `search` a part of the id in small or capital letters,
    `in_sync`, `suspect` and `problem` are as in the answer, and `least_probability` is the least
    probability of the longest horizon.
    """
    if filters.search is not None:
        part = filters.search
        withhold_accounts(lambda: (part,))
    asked = PageRequest(sort, account_state, limit, cursor, filters)
    return await look_up(lanes.read, service, lambda: account_listing.page(asked))


@read_route("/v1/accounts/{account_id:str}", 404, 422)
async def get_account(
    account_id: FromPath[str],
    account_listing: NamedDependency[AccountListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[AccountDetail]:
    """One account of the live book as it stands, evaluated at the newest market.

    The id is URL-encoded and may hold slashes, encoded or not.
    """
    name = unquote(account_id)
    withhold_accounts(lambda: (name,))
    return await look_up(lanes.read, service, lambda: account_listing.account(name))


ACCOUNT_ROUTES: tuple[HTTPRouteHandler, ...] = (
    put_account,
    post_updates,
    list_accounts,
    get_account,
)
