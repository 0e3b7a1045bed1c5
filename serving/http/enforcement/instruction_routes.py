"""Routes of instructions, and of the venue's answers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from serving.admission.lanes import Lanes
from serving.enforcement.instruction_listing import InstructionListing, InstructionQuery
from serving.http.auth import requires
from serving.http.enforcement.command_route import CommandSender, post_command
from serving.http.handlers import IdempotencyKey
from serving.http.problems import json_response
from serving.http.route_docs import READ_PROBLEMS, DocumentedOperation, problems
from serving.http.strict_body import Encoded, StrictBody
from serving.schemas.enforcement_messages import (
    AcknowledgeRequest,
    CommandAnswer,
    InstructionDetail,
    InstructionPage,
)
from serving.service import Service
from serving.telemetry.exchange import withhold_accounts

InstructionStateName = Annotated[str | None, QueryParameter(name="state")]
InstructionType = Annotated[str | None, QueryParameter(name="type")]
IsOpen = Annotated[bool | None, QueryParameter(name="open")]


def _instruction_query(
    instruction_state: InstructionStateName = None,
    instruction_type: InstructionType = None,
    account: FromQuery[str | None] = None,
    call_id: FromQuery[str | None] = None,
    is_open: IsOpen = None,
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> InstructionQuery:
    return InstructionQuery(
        instruction_state, instruction_type, account, call_id, is_open, limit, cursor
    )


@get(
    "/v1/instructions",
    dependencies={"filters": Provide(_instruction_query, sync_to_thread=False)},
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS, 422),
    operation_class=DocumentedOperation,
)
async def list_instructions(
    instruction_listing: NamedDependency[InstructionListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    filters: NamedDependency[InstructionQuery],
) -> Response[InstructionPage]:
    """Instructions to the venue, the newest first; `cursor` is `next_cursor` of a page.

    `type` is cancel_orders, reduce_only, close, transfer_to_backstop, auction or deleverage;
    `open=true` leaves out those on which the venue has nothing to do any more.
    """
    if filters.account is not None:
        name = filters.account
        withhold_accounts(lambda: (name,))

    def page() -> bytes:
        return msgspec.json.encode(instruction_listing.page(filters))

    return json_response(await lanes.read.run(page, service.settings.call_seconds))


@get(
    "/v1/instructions/{instruction_id:str}",
    guards=[requires("read")],
    responses=problems(*READ_PROBLEMS, 404),
    operation_class=DocumentedOperation,
)
async def get_instruction(
    instruction_id: FromPath[str],
    instruction_listing: NamedDependency[InstructionListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[InstructionDetail]:
    """One instruction: its events and their notifications."""

    def found() -> bytes:
        return msgspec.json.encode(instruction_listing.instruction(instruction_id))

    return json_response(await lanes.read.run(found, service.settings.call_seconds))


@post_command("/v1/instructions/{instruction_id:str}/ack", StrictBody[AcknowledgeRequest], "venue")
async def acknowledge_instruction(
    instruction_id: FromPath[str],
    data: JSONBody[Encoded[AcknowledgeRequest]],
    request: Request[str, Any, State],
    command_sender: NamedDependency[CommandSender],
    idempotency_key: IdempotencyKey = None,
) -> Response[CommandAnswer]:
    """Answer an instruction: `acknowledged`, `filled`, `partly_filled` or `rejected`.

    Fills of a close give the signed `quantity` that was traded so far.
    """

    def command() -> dict[str, Any]:
        body = msgspec.to_builtins(data.decode())
        return {"command": "acknowledge", "instruction_id": instruction_id, **body}

    return await command_sender.send(request, data.body, idempotency_key, command)


INSTRUCTION_ROUTES: tuple[HTTPRouteHandler, ...] = (
    list_instructions,
    get_instruction,
    acknowledge_instruction,
)
