"""Routes of instructions, and of the venue's answers."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from serving.admission.lanes import Lanes
from serving.enforcement.instruction_listing import InstructionListing
from serving.enforcement.stored_rows import RowQuery
from serving.http.enforcement.command_route import CommandSender, post_command
from serving.http.handlers import look_up, read_route
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


def _instruction_query(
    instruction_state: InstructionStateName = None,
    instruction_type: InstructionType = None,
    account: FromQuery[str | None] = None,
    call_id: FromQuery[str | None] = None,
    open: FromQuery[bool | None] = None,  # noqa: A002  its name in the URL
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
) -> RowQuery:
    return RowQuery(instruction_state, instruction_type, account, call_id, open, limit, cursor)


@read_route("/v1/instructions", 422, filters=_instruction_query)
async def list_instructions(
    instruction_listing: NamedDependency[InstructionListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    filters: NamedDependency[RowQuery],
) -> Response[InstructionPage]:
    """Instructions to the venue, the newest first; `cursor` is `next_cursor` of a page.

    `type` is cancel_orders, reduce_only, close, transfer_to_backstop, auction or deleverage;
    `open=true` leaves out those on which the venue has nothing to do any more.
    """
    if filters.account is not None:
        name = filters.account
        withhold_accounts(lambda: (name,))
    return await look_up(lanes.read, service, lambda: instruction_listing.page(filters))


@read_route("/v1/instructions/{instruction_id:str}", 404)
async def get_instruction(
    instruction_id: FromPath[str],
    instruction_listing: NamedDependency[InstructionListing],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[InstructionDetail]:
    """One instruction: its events and their notifications."""
    return await look_up(
        lanes.read, service, lambda: instruction_listing.instruction(instruction_id)
    )


@post_command("/v1/instructions/{instruction_id:str}/ack", StrictBody[AcknowledgeRequest], "venue")
async def acknowledge_instruction(
    instruction_id: FromPath[str],
    data: JSONBody[Encoded[AcknowledgeRequest]],
    command_sender: NamedDependency[CommandSender],
) -> Response[CommandAnswer]:
    """Answer an instruction: `acknowledged`, `filled`, `partly_filled` or `rejected`.

    Fills of a close give the signed `quantity` that was traded so far.
    """
    return await command_sender.send(data, command="acknowledge", instruction_id=instruction_id)


INSTRUCTION_ROUTES: tuple[HTTPRouteHandler, ...] = (
    list_instructions,
    get_instruction,
    acknowledge_instruction,
)
