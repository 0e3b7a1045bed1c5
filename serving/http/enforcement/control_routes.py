"""Routes of overrides, modes and notifications."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from serving.admission.lanes import Lanes
from serving.enforcement.control_listing import ControlListing
from serving.http.enforcement.command_route import CommandSender, post_command
from serving.http.handlers import look_up, read_route
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


@read_route("/v1/overrides")
async def list_overrides(
    control_listing: NamedDependency[ControlListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[OverrideList]:
    """Overrides that are pending or active, the newest first."""
    return await look_up(lanes.read, service, control_listing.overrides)


@post_command("/v1/overrides", StrictBody[OverrideRequest], "approve")
async def request_override(
    data: JSONBody[Encoded[OverrideRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Set the add-on of an account, or the deadline of a call, for a time and for a reason.

    Its id is the `command_id` of the answer. Below the amount of the approval matrix it counts at
    once; else it is `pending` until another key approves it.
    """
    return await command_sender.send(data, _override, command="override")


@post_command("/v1/overrides/{override_id:str}/approve", StrictBody[ApproveRequest], "approve")
async def approve_override(
    override_id: FromPath[str],
    data: JSONBody[Encoded[ApproveRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Approve a pending override that another key requested; it ends an active one of its target.

    It is checked again: the floor of the rules and the state of the call may have changed.
    """
    return await command_sender.send(data, command="approve", override_id=override_id)


@post_command("/v1/overrides/{override_id:str}/reject", StrictBody[RejectRequest], "approve")
async def reject_override(
    override_id: FromPath[str],
    data: JSONBody[Encoded[RejectRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Reject a pending override, or end an active one, with a note."""
    return await command_sender.send(data, command="reject", override_id=override_id)


@read_route("/v1/admin/mode")
async def get_mode(
    control_listing: NamedDependency[ControlListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[ModeView]:
    """Modes in force, of all markets and of single ones."""
    return await look_up(lanes.read, service, control_listing.modes)


@post_command("/v1/admin/mode", StrictBody[ModeRequest], "admin")
async def set_mode(
    data: JSONBody[Encoded[ModeRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Set the mode of a market or of all, at once and without approval.

    `rules_only`: the add-on is the floor of the rules. `no_calls`: no call is opened.
    `no_instructions`: the venue gets no instruction. `normal` ends them. Several are given as a
    list; they replace those before.
    """
    return await command_sender.send(data, _mode, command="mode")


@read_route("/v1/admin/deliveries", 422)
async def list_deliveries(
    control_listing: NamedDependency[ControlListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    status: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Response[DeliveryPage]:
    """Notifications at sinks, the oldest first; `status` is pending, delivered, dead or skipped."""
    return await look_up(
        lanes.read, service, lambda: control_listing.deliveries(status, limit, cursor)
    )


@post_command("/v1/admin/deliveries/{event_id:str}/skip", StrictBody[SkipRequest], "admin")
async def skip_delivery(
    event_id: FromPath[str],
    data: JSONBody[Encoded[SkipRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Give up a dead notification at a sink: later events of its account are sent again."""
    return await command_sender.send(data, command="skip_delivery", event_id=event_id)


def _override(body: OverrideRequest) -> dict[str, Any]:
    if body.account_id is not None:
        name = body.account_id
        withhold_accounts(lambda: (name,))
    fields: dict[str, Any] = msgspec.to_builtins(body)
    return fields


def _mode(body: ModeRequest) -> dict[str, Any]:
    modes = [body.mode] if isinstance(body.mode, str) else body.mode
    return {"modes": modes, "symbol": body.symbol, "reason": body.reason}


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
