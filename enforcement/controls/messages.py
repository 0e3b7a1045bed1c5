"""Commands as they are recorded: what a person or the venue asks of enforcement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from enforcement.controls.context import CommandRefusedError

MOST_TEXT = 500
"""Characters of a reason or a note."""

MOST_ID = 256
"""Characters of an id."""

DisputeReason = Literal["position", "price", "haircut", "model", "duplicate"]
DISPUTE_REASONS: tuple[DisputeReason, ...] = get_args(DisputeReason)

DisputeOutcome = Literal["accepted", "rejected"]

AnswerStatus = Literal["acknowledged", "filled", "partly_filled", "rejected"]
ANSWER_STATUSES: tuple[AnswerStatus, ...] = get_args(AnswerStatus)

Mode = Literal["normal", "rules_only", "no_calls", "no_instructions"]
MODES: tuple[Mode, ...] = get_args(Mode)

Reason = Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]
Note = Annotated[str, Meta(max_length=MOST_TEXT)]
Id = Annotated[str, Meta(min_length=1, max_length=MOST_ID)]
Reference = Annotated[str, Meta(max_length=MOST_ID)]
Amount = Annotated[float, Meta(ge=0)]
Symbol = Annotated[str, Meta(pattern=r"^[A-Z0-9]{1,40}$")]


class Dispute(Struct, frozen=True, tag_field="command", tag="dispute"):
    """The client contests a call; `amount` None: all of it."""

    requester: str
    call_id: Id
    reason: DisputeReason
    amount: Annotated[float, Meta(gt=0)] | None = None
    note: Note = ""


class Resolve(Struct, frozen=True, tag_field="command", tag="resolve"):
    """A person decides on a dispute."""

    requester: str
    call_id: Id
    outcome: DisputeOutcome
    note: Reason


class AcknowledgeCall(Struct, frozen=True, tag_field="command", tag="acknowledge_call"):
    """The venue, or the client through it, has a call. `reference`: an id of its own."""

    requester: str
    call_id: Id
    reference: Reference = ""


class Acknowledge(Struct, frozen=True, tag_field="command", tag="acknowledge"):
    """The venue answers an instruction.

    `quantity`: signed, all that was traded so far. `price`: its mean. `reference`: the venue's id.
    """

    requester: str
    instruction_id: Id
    status: AnswerStatus
    quantity: float | None = None
    price: Annotated[float, Meta(gt=0)] | None = None
    reason: Note = ""
    reference: Reference = ""


class RequestOverride(Struct, frozen=True, tag_field="command", tag="override"):
    """A person sets the add-on of an account, or the deadline of a call, until `expires`."""

    requester: str
    reason: Reason
    account_id: Id | None = None
    add_on: Amount | None = None
    call_id: Id | None = None
    deadline: str | None = None
    expires: str | None = None


class Approve(Struct, frozen=True, tag_field="command", tag="approve"):
    """A second person approves an override."""

    requester: str
    override_id: Id
    note: Note = ""


class Reject(Struct, frozen=True, tag_field="command", tag="reject"):
    """A person rejects a pending override, or ends an active one."""

    requester: str
    override_id: Id
    note: Reason


class SetMode(Struct, frozen=True, tag_field="command", tag="mode"):
    """A person sets the modes of one market, or of all."""

    requester: str
    modes: Annotated[tuple[Mode, ...], Meta(min_length=1, max_length=3)]
    reason: Reason
    symbol: Symbol | None = None


class SkipDelivery(Struct, frozen=True, tag_field="command", tag="skip_delivery"):
    """A person gives up a dead notification, so that later ones of its account are sent."""

    requester: str
    event_id: Id
    sink: Id
    reason: Reason


Command = (
    Dispute
    | Resolve
    | AcknowledgeCall
    | Acknowledge
    | RequestOverride
    | Approve
    | Reject
    | SetMode
    | SkipDelivery
)


def read_command(command: Mapping[str, Any]) -> Command:
    """The command of a recorded payload.

    Raises
    ------
    CommandRefusedError
        It has another form.
    """
    try:
        read: Command = msgspec.convert(dict(command), Command)
    except msgspec.ValidationError as error:
        raise CommandRefusedError(
            "invalid", f"the command cannot be read: {error}; see docs/enforcement.md"
        ) from None
    return read
