"""Routes of calls and their disputes, and of commands."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from serving.admission.lanes import Lanes
from serving.enforcement.call_listing import CallListing, CallQuery
from serving.enforcement.command_posts import CommandPosts
from serving.http.auth import requires
from serving.http.enforcement.command_route import CommandSender, post_command
from serving.http.handlers import IdempotencyKey
from serving.http.problems import json_response
from serving.http.route_docs import READ_PROBLEMS, DocumentedOperation, problems
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
IsOpen = Annotated[bool | None, QueryParameter(name="open")]


def _call_query(
    call_state: CallState = None,
    call_type: CallType = None,
    account: FromQuery[str | None] = None,
    is_open: IsOpen = None,
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> CallQuery:
    return CallQuery(call_state, call_type, account, is_open, limit, cursor)


@get(
    "/v1/calls",
    dependencies={"filters": Provide(_call_query, sync_to_thread=False)},
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS, 422),
    operation_class=DocumentedOperation,
)
async def list_calls(
    call_listing: NamedDependency[CallListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    filters: NamedDependency[CallQuery],
) -> Response[CallPage]:
    """Margin calls, advice and liquidations, the newest first; `cursor` is `next_cursor` of a page.

    `state` is a state of the life cycle, `type` proactive, initial_margin, maintenance_margin or
    settlement; `open=true` leaves out those that have ended.
    """
    if filters.account is not None:
        name = filters.account
        withhold_accounts(lambda: (name,))

    def page() -> bytes:
        return msgspec.json.encode(call_listing.page(filters))

    return json_response(await lanes.read.run(page, service.settings.call_seconds))


@get(
    "/v1/calls/{call_id:str}",
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS, 404),
    operation_class=DocumentedOperation,
)
async def get_call(
    call_id: FromPath[str],
    call_listing: NamedDependency[CallListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[CallDetail]:
    """One call: its events, cures, instructions, notifications, dispute and overrides."""

    def found() -> bytes:
        return msgspec.json.encode(call_listing.call(call_id))

    return json_response(await lanes.read.run(found, service.settings.call_seconds))


@post_command("/v1/calls/{call_id:str}/ack", StrictBody[AcknowledgeCallRequest], "venue")
async def acknowledge_call(
    call_id: FromPath[str],
    data: JSONBody[Encoded[AcknowledgeCallRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Say that a call has been received; the first acknowledgement counts.

    Its hours run from then on where the rule set has `deadlines_from = "acknowledgement"`.
    """

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "acknowledge_call", "call_id": call_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


@post_command("/v1/calls/{call_id:str}/dispute", StrictBody[DisputeRequest], "accounts")
async def dispute_call(
    call_id: FromPath[str],
    data: JSONBody[Encoded[DisputeRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Contest a call, once; what is not disputed stays due.

    The dispute ends when a person resolves it, after the `dispute_hours` of the rule set, or when
    the account is stopped out.
    """

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "dispute", "call_id": call_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


@post_command("/v1/calls/{call_id:str}/resolve", StrictBody[ResolveRequest], "approve")
async def resolve_call(
    call_id: FromPath[str],
    data: JSONBody[Encoded[ResolveRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Decide on the dispute of a call: `accepted` or `rejected`, with a note."""

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "resolve", "call_id": call_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


@get(
    "/v1/commands/{command_id:str}",
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS, 404),
    operation_class=DocumentedOperation,
)
async def get_command(
    command_id: FromPath[str],
    command_posts: NamedDependency[CommandPosts],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[CommandAnswer]:
    """What became of a command: `waiting` until the leader has applied it."""

    def found() -> bytes:
        return msgspec.json.encode(command_posts.answer(command_id))

    return json_response(await lanes.read.run(found, service.settings.call_seconds))


CALL_ROUTES: tuple[HTTPRouteHandler, ...] = (
    list_calls,
    get_call,
    acknowledge_call,
    dispute_call,
    resolve_call,
    get_command,
)
