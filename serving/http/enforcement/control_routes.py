"""Routes of overrides, modes and notifications."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from serving.admission.lanes import Lanes
from serving.enforcement.control_listing import ControlListing
from serving.http.auth import requires
from serving.http.enforcement.command_route import CommandSender, post_command
from serving.http.handlers import IdempotencyKey
from serving.http.problems import json_response
from serving.http.route_docs import READ_PROBLEMS, DocumentedOperation, problems
from serving.http.strict_body import Encoded, StrictBody
from serving.schemas.enforcement_messages import (
    ApproveRequest,
    CommandAnswer,
    DeliveryPage,
    ModeRequest,
    ModeView,
    OverrideList,
    OverrideRequest,
    RejectRequest,
    SkipRequest,
)
from serving.service import Service
from serving.telemetry.exchange import withhold_accounts


@get(
    "/v1/overrides",
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS),
    operation_class=DocumentedOperation,
)
async def list_overrides(
    control_listing: NamedDependency[ControlListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[OverrideList]:
    """Overrides that are pending or active, the newest first."""

    def found() -> bytes:
        return msgspec.json.encode(control_listing.overrides())

    return json_response(await lanes.read.run(found, service.settings.call_seconds))


@post_command("/v1/overrides", StrictBody[OverrideRequest], "approve")
async def request_override(
    data: JSONBody[Encoded[OverrideRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Set the add-on of an account, or the deadline of a call, for a time and for a reason.

    Its id is the `command_id` of the answer. Below the amount of the approval matrix it counts at
    once; else it is `pending` until another key approves it.
    """

    def command() -> dict[str, Any]:
        body = data.decode()
        if body.account_id is not None:
            name = body.account_id
            withhold_accounts(lambda: (name,))
        return {"command": "override", **msgspec.to_builtins(body)}

    return await command_sender.send(request, data.body, idempotency_key, command)


@post_command("/v1/overrides/{override_id:str}/approve", StrictBody[ApproveRequest], "approve")
async def approve_override(
    override_id: FromPath[str],
    data: JSONBody[Encoded[ApproveRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Approve a pending override that another key requested; it ends an active one of its target.

    It is checked again: the floor of the rules and the state of the call may have changed.
    """

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "approve", "override_id": override_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


@post_command("/v1/overrides/{override_id:str}/reject", StrictBody[RejectRequest], "approve")
async def reject_override(
    override_id: FromPath[str],
    data: JSONBody[Encoded[RejectRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Reject a pending override, or end an active one, with a note."""

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "reject", "override_id": override_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


@get(
    "/v1/admin/mode",
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS),
    operation_class=DocumentedOperation,
)
async def get_mode(
    control_listing: NamedDependency[ControlListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[ModeView]:
    """Modes in force, of all markets and of single ones."""

    def found() -> bytes:
        return msgspec.json.encode(control_listing.modes())

    return json_response(await lanes.read.run(found, service.settings.call_seconds))


@post_command("/v1/admin/mode", StrictBody[ModeRequest], "admin")
async def set_mode(
    data: JSONBody[Encoded[ModeRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Set the mode of a market or of all, at once and without approval.

    `rules_only`: the add-on is the floor of the rules. `no_calls`: no call is opened.
    `no_instructions`: the venue gets no instruction. `normal` ends them. Several are given as a
    list; they replace those before.
    """

    def command() -> dict[str, Any]:
        body = data.decode()
        modes = [body.mode] if isinstance(body.mode, str) else body.mode
        return {"command": "mode", "modes": modes, "symbol": body.symbol, "reason": body.reason}

    return await command_sender.send(request, data.body, idempotency_key, command)


@get(
    "/v1/admin/deliveries",
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS, 422),
    operation_class=DocumentedOperation,
)
async def list_deliveries(
    control_listing: NamedDependency[ControlListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    status: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Response[DeliveryPage]:
    """Notifications at sinks, the oldest first; `status` is pending, delivered, dead or skipped."""

    def page() -> bytes:
        return msgspec.json.encode(control_listing.deliveries(status, limit, cursor))

    return json_response(await lanes.read.run(page, service.settings.call_seconds))


@post_command("/v1/admin/deliveries/{event_id:str}/skip", StrictBody[SkipRequest], "admin")
async def skip_delivery(
    event_id: FromPath[str],
    data: JSONBody[Encoded[SkipRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Give up a dead notification at a sink: later events of its account are sent again."""

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "skip_delivery", "event_id": event_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


CONTROL_ROUTES: tuple[HTTPRouteHandler, ...] = (
    list_overrides,
    request_override,
    approve_override,
    reject_override,
    get_mode,
    set_mode,
    list_deliveries,
    skip_delivery,
)
