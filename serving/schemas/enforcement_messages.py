"""Requests and responses of the routes of calls, instructions and controls."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from enforcement.calls.call import Call
from enforcement.calls.instruction import Instruction
from enforcement.controls.messages import (
    AnswerStatus,
    DisputeOutcome,
    DisputeReason,
    Id,
    Mode,
    Note,
    Reason,
    Reference,
    Symbol,
)
from enforcement.controls.override import Override


class DisputeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Contest a call."""

    reason: DisputeReason
    """What is contested."""
    amount: Annotated[float, Meta(gt=0)] | None = None
    """Amount that is disputed, settlement currency; null: all that is outstanding."""
    note: Note = ""
    """Text for whoever decides; it is recorded."""


class ResolveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Decide on the dispute of a call."""

    outcome: DisputeOutcome
    """Whether the dispute was right; either decision ends it."""
    note: Reason
    """Why; it is recorded."""


class AcknowledgeCallRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A call has been received."""

    reference: Reference = ""
    """Id of your own for the call; empty: none."""


class AcknowledgeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The venue's answer to an instruction."""

    status: AnswerStatus
    """What became of the instruction."""
    quantity: float | None = None
    """Signed quantity that was traded so far, all fills together, in units of the underlying; null
    where nothing was."""
    price: Annotated[float, Meta(gt=0)] | None = None
    """Mean price of the fills, settlement currency; null where nothing was traded."""
    reason: Note = ""
    """Why it was rejected, or another note; it is recorded."""
    reference: Reference = ""
    """The venue's own id; empty: none."""


class OverrideRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Set the add-on of an account, or the deadline of a call. Give `account_id` and `add_on`, or
    `call_id` and `deadline`."""

    reason: Reason
    """Why; it is recorded."""
    account_id: Id | None = None
    """Account whose add-on is set; null for a deadline."""
    add_on: Annotated[float, Meta(ge=0)] | None = None
    """Add-on to set, settlement currency; null for a deadline."""
    call_id: Id | None = None
    """Call whose deadline is set; null for an add-on."""
    deadline: str | None = None
    """Deadline to set; null for an add-on."""
    expires: str | None = None
    """From when the override no longer counts; required with an add-on. Null of a deadline: a day
    after it."""


class ApproveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Approve a pending override."""

    note: Note = ""
    """Text that is recorded with the approval."""


class RejectRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Reject a pending override, or end an active one."""

    note: Reason
    """Why; it is recorded."""


class ModeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Set the modes of one market or of all; they replace those before."""

    mode: Mode | Annotated[list[Mode], Meta(min_length=1, max_length=3)]
    """One mode, or several together."""
    reason: Reason
    """Why; it is recorded."""
    symbol: Symbol | None = None
    """Symbol of the market, like `BTCUSDT`; null: all markets."""


class SkipRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Give up a dead notification at a sink."""

    sink: Id
    """Name of the sink that could not be reached."""
    reason: Reason
    """Why; it is recorded."""


class CommandAnswer(Struct, frozen=True):
    """What became of a command."""

    command_id: str
    """Id of the command."""
    result: Literal["applied", "pending", "refused", "waiting"]
    """Applied; `pending`, an override that waits for approval; refused; or `waiting`, not applied
    yet: `GET /v1/commands/{command_id}` tells."""
    outcome: dict[str, Any] | None = None
    """Record of what it changed, or why it was refused; null while it waits."""


class CallPage(Struct, frozen=True):
    """Calls, the newest first."""

    calls: list[Call]
    """Calls of this page."""
    next_cursor: str | None
    """Cursor of the next page; null on the last."""


class Delivery(Struct, frozen=True):
    """A notification at a sink."""

    event_id: str
    """Id of the event that it tells of."""
    sink: str
    """Name of the sink."""
    account_id: str
    """Id of the account of the event."""
    sequence: int
    """Number of the event within the account."""
    status: str
    """`pending`, `delivered`, `dead` or `skipped`."""
    attempts: int
    """How often it was sent."""
    created_at: str
    """When the event was recorded."""
    next_attempt_at: str | None
    """When it is sent again; null where that is not due."""
    detail: str
    """Answer or error of the newest attempt; empty before one."""


class CallDetail(Struct, frozen=True):
    """A call with its record."""

    call: Call
    """The call as it stands."""
    events: list[dict[str, Any]]
    """Its newest 1,000 events in their order, as recorded, each with `event_id` and `time`."""
    cures: list[dict[str, Any]]
    """Amounts that met it, of these events."""
    instructions: list[Instruction]
    """Instructions given for it."""
    deliveries: list[Delivery]
    """Notifications of its events and instructions."""
    overrides: list[Override]
    """Pending and active overrides of its deadline and of its account."""


class InstructionPage(Struct, frozen=True):
    """Instructions, the newest first."""

    instructions: list[Instruction]
    """Instructions of this page."""
    next_cursor: str | None
    """Cursor of the next page; null on the last."""


class InstructionDetail(Struct, frozen=True):
    """An instruction with its record."""

    instruction: Instruction
    """The instruction as it stands."""
    events: list[dict[str, Any]]
    """Its newest 1,000 events in their order, as recorded."""
    deliveries: list[Delivery]
    """Notifications of these events."""


class OverrideList(Struct, frozen=True):
    """Overrides that are pending or active, the newest first."""

    overrides: list[Override]
    """Pending and active overrides, the newest first."""


class ModeView(Struct, frozen=True):
    """Modes in force."""

    modes: list[str]
    """Modes of all markets."""
    markets: dict[str, list[str]]
    """Modes of each market that has some of its own, by symbol."""


class DeliveryPage(Struct, frozen=True):
    """Notifications, the oldest first."""

    deliveries: list[Delivery]
    """Notifications of this page."""
    next_cursor: str | None
    """Cursor of the next page; null on the last."""
