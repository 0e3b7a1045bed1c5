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
    """Contest a call: an `amount` of it, or without one all that is outstanding."""

    reason: DisputeReason
    amount: Annotated[float, Meta(gt=0)] | None = None
    note: Note = ""


class ResolveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Decide on the dispute of a call."""

    outcome: DisputeOutcome
    note: Reason


class AcknowledgeCallRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A call has been received; `reference`: an id of whoever received it."""

    reference: Reference = ""


class AcknowledgeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The venue's answer to an instruction.

    `quantity`: signed, all that was traded so far, for a fill of a close. `price`: its mean.
    `reference`: the venue's own id.
    """

    status: AnswerStatus
    quantity: float | None = None
    price: Annotated[float, Meta(gt=0)] | None = None
    reason: Note = ""
    reference: Reference = ""


class OverrideRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Set the add-on of an account, or the deadline of a call, until `expires`.

    Give `account_id` and `add_on`, or `call_id` and `deadline`. `expires` of a deadline is a day
    after it where it is left out.
    """

    reason: Reason
    account_id: Id | None = None
    add_on: Annotated[float, Meta(ge=0)] | None = None
    call_id: Id | None = None
    deadline: str | None = None
    expires: str | None = None


class ApproveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Approve a pending override."""

    note: Note = ""


class RejectRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Reject a pending override, or end an active one."""

    note: Reason


class ModeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Set the modes of one market, or without `symbol` of all: they replace those before."""

    mode: Mode | Annotated[list[Mode], Meta(min_length=1, max_length=3)]
    reason: Reason
    symbol: Symbol | None = None


class SkipRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Give up a dead notification at a sink."""

    sink: Id
    reason: Reason


class CommandAnswer(Struct, frozen=True):
    """What became of a command.

    `result`: ``applied``; ``pending``, an override that waits for approval; ``refused``; or
    ``waiting``, not applied yet: `GET /v1/commands/{id}` tells. `outcome`: the record of what it
    changed, null while it waits.
    """

    command_id: str
    result: Literal["applied", "pending", "refused", "waiting"]
    outcome: dict[str, Any] | None = None


class CallPage(Struct, frozen=True):
    """Calls, the newest first; `next_cursor` leads to the next page, null where there is none."""

    calls: list[Call]
    next_cursor: str | None


class Delivery(Struct, frozen=True):
    """A notification at a sink; `next_attempt_at` is null where none is due.

    `status`: ``pending``, ``delivered``, ``dead`` or ``skipped``.
    """

    event_id: str
    sink: str
    account_id: str
    sequence: int
    status: str
    attempts: int
    created_at: str
    next_attempt_at: str | None
    detail: str


class CallDetail(Struct, frozen=True):
    """A call with its record.

    `events`: its newest 1,000 events in their order, as recorded, each with `event_id` and `time`.
    `cures`: the cure ledger of these events. `instructions`: those given for it.
    `deliveries`: notifications of its events and instructions. `overrides`: pending and active
    ones of its deadline and of its account.
    """

    call: Call
    events: list[dict[str, Any]]
    cures: list[dict[str, Any]]
    instructions: list[Instruction]
    deliveries: list[Delivery]
    overrides: list[Override]


class InstructionPage(Struct, frozen=True):
    """Instructions, the newest first; `next_cursor` as in `CallPage`."""

    instructions: list[Instruction]
    next_cursor: str | None


class InstructionDetail(Struct, frozen=True):
    """An instruction with its newest 1,000 events and their notifications."""

    instruction: Instruction
    events: list[dict[str, Any]]
    deliveries: list[Delivery]


class OverrideList(Struct, frozen=True):
    """Overrides that are pending or active, the newest first."""

    overrides: list[Override]


class ModeView(Struct, frozen=True):
    """Modes in force: of all markets, and of each market that has some of its own."""

    modes: list[str]
    markets: dict[str, list[str]]


class DeliveryPage(Struct, frozen=True):
    """Notifications, the oldest first; `next_cursor` as in `CallPage`."""

    deliveries: list[Delivery]
    next_cursor: str | None
