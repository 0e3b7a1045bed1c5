"""Routes of calls and their disputes, and of commands."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from serving.admission.lanes import Lanes
from serving.enforcement.call_listing import CallListing
from serving.enforcement.command_posts import CommandPosts
from serving.enforcement.stored_rows import RowQuery
from serving.http.enforcement.command_route import CommandSender, post_command
from serving.http.handlers import look_up, read_route
from serving.http.strict_body import Encoded, StrictBody
from serving.schemas.enforcement_messages import (
    AcknowledgeCallRequest,
    CallDetail,
    CallPage,
    CommandAnswer,
    DisputeRequest,
    ResolveRequest,
)
from serving.service import Service
from serving.telemetry.exchange import withhold_accounts

CallState = Annotated[str | None, QueryParameter(name="state")]
CallType = Annotated[str | None, QueryParameter(name="type")]


def _call_query(
    call_state: CallState = None,
    call_type: CallType = None,
    account: FromQuery[str | None] = None,
    open: FromQuery[bool | None] = None,  # noqa: A002  its name in the URL
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
    sort: FromQuery[str | None] = None,
) -> RowQuery:
    return RowQuery(call_state, call_type, account, None, open, limit, cursor, sort)


@read_route("/v1/calls", 422, filters=_call_query)
async def list_calls(
    call_listing: NamedDependency[CallListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    filters: NamedDependency[RowQuery],
) -> Response[CallPage]:
    """Margin calls, advice and liquidations, the newest first; `cursor` is `next_cursor` of a page.

    `state` is a state of the life cycle, `type` proactive, initial_margin, maintenance_margin or
    settlement; `open=true` leaves out those that have ended. `sort=due` lists the next deadline
    first, and calls without one last; a cursor belongs to its order.
    """
    if filters.account is not None:
        name = filters.account
        withhold_accounts(lambda: (name,))
    return await look_up(lanes.read, service, lambda: call_listing.page(filters))


@read_route("/v1/calls/{call_id:str}", 404)
async def get_call(
    call_id: FromPath[str],
    call_listing: NamedDependency[CallListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[CallDetail]:
    """One call: its events, cures, instructions, notifications, dispute and overrides."""
    return await look_up(lanes.read, service, lambda: call_listing.call(call_id))


@post_command("/v1/calls/{call_id:str}/ack", StrictBody[AcknowledgeCallRequest], "venue")
async def acknowledge_call(
    call_id: FromPath[str],
    data: JSONBody[Encoded[AcknowledgeCallRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Say that a call has been received; the first acknowledgement counts.

    Its hours run from then on where the rule set has `deadlines_from = "acknowledgement"`.
    """
    return await command_sender.send(data, command="acknowledge_call", call_id=call_id)


@post_command("/v1/calls/{call_id:str}/dispute", StrictBody[DisputeRequest], "accounts")
async def dispute_call(
    call_id: FromPath[str],
    data: JSONBody[Encoded[DisputeRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Contest a call, once; what is not disputed stays due.

    The dispute ends when a person resolves it, after the `dispute_hours` of the rule set, or when
    the account is stopped out.
    """
    return await command_sender.send(data, command="dispute", call_id=call_id)


@post_command("/v1/calls/{call_id:str}/resolve", StrictBody[ResolveRequest], "approve")
async def resolve_call(
    call_id: FromPath[str],
    data: JSONBody[Encoded[ResolveRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Decide on the dispute of a call: `accepted` or `rejected`, with a note."""
    return await command_sender.send(data, command="resolve", call_id=call_id)


@read_route("/v1/commands/{command_id:str}", 404)
async def get_command(
    command_id: FromPath[str],
    command_posts: NamedDependency[CommandPosts],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[CommandAnswer]:
    """What became of a command: `waiting` until the leader has applied it."""
    return await look_up(lanes.read, service, lambda: command_posts.answer(command_id))


CALL_ROUTES: tuple[HTTPRouteHandler, ...] = (
    list_calls,
    get_call,
    acknowledge_call,
    dispute_call,
    resolve_call,
    get_command,
)
