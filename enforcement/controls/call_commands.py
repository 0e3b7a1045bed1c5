"""Commands on calls and instructions: acknowledgements, disputes, and the venue's answers."""

from __future__ import annotations

import math
from typing import Any

from enforcement.controls.context import (
    CallView,
    CommandRefusedError,
    ControlContext,
    InstructionView,
)
from enforcement.controls.messages import Acknowledge, AcknowledgeCall, Dispute, Resolve
from market.core.clock import HOUR, format_time

DISPUTABLE = ("called", "partly_met")
"""States of a call that can be disputed: before its deadline."""

_DECIDED = ("accepted", "rejected", "expired")

_ROUNDING = 1e-9


def takes_dispute(call: CallView) -> bool:
    """Whether a call stands so that it can be disputed, if it was not before."""
    return call.is_open and call.kind == "call" and call.state in DISPUTABLE


def was_disputed(call: CallView) -> bool:
    """Whether the one dispute that a call may have is over."""
    return call.dispute_end in _DECIDED


def takes_acknowledgement(call: CallView) -> bool:
    """Whether a call is one that is acknowledged."""
    return call.is_open and call.kind == "call"


def open_dispute(command: Dispute, now: int, context: ControlContext) -> dict[str, Any]:
    """The effect of a dispute.

    Raises
    ------
    CommandRefusedError
        There is no such call, it cannot be disputed now, or less is outstanding.
    """
    call = _call(command.call_id, context)
    if not takes_dispute(call):
        raise CommandRefusedError(
            "conflict",
            f"call {command.call_id} ({call.kind}) is {call.state}; only a call that is "
            f"{' or '.join(DISPUTABLE)} can be disputed",
        )
    if call.dispute is not None:
        raise CommandRefusedError("conflict", f"call {command.call_id} is disputed already")
    if was_disputed(call):
        raise CommandRefusedError(
            "conflict",
            f"the dispute of call {command.call_id} has ended ({call.dispute_end}); a call is "
            "disputed once",
        )
    if command.amount is not None and not command.amount <= call.outstanding:
        raise CommandRefusedError(
            "invalid",
            f"amount is {command.amount}; give at most {call.outstanding}, what is outstanding, or "
            "leave it out to dispute all",
        )
    dispute = {
        "reason": command.reason,
        "amount": command.amount,
        "since": format_time(now),
        "until": format_time(now + round(context.dispute_hours * HOUR)),
        "by": command.requester,
        "note": command.note,
    }
    return {"effect": "disputed", "call_id": command.call_id, "dispute": dispute}


def resolve_dispute(command: Resolve, context: ControlContext) -> dict[str, Any]:
    """The effect of a decision on a dispute.

    Raises
    ------
    CommandRefusedError
        There is no such call, or it is not disputed.
    """
    call = _call(command.call_id, context)
    if not call.is_open or call.dispute is None:
        raise CommandRefusedError(
            "conflict", f"call {command.call_id} is {call.state} and not disputed"
        )
    return {
        "effect": "dispute_resolved",
        "call_id": command.call_id,
        "outcome": command.outcome,
        "by": command.requester,
        "note": command.note,
    }


def acknowledge_call(command: AcknowledgeCall, now: int, context: ControlContext) -> dict[str, Any]:
    """The effect of the acknowledgement of a call.

    Raises
    ------
    CommandRefusedError
        There is no such call, it takes no acknowledgement, or it has one.
    """
    call = _call(command.call_id, context)
    if not takes_acknowledgement(call):
        raise CommandRefusedError(
            "conflict",
            f"call {command.call_id} ({call.kind}) is {call.state}; only an open margin call takes "
            "an acknowledgement, no advice and no liquidation alone",
        )
    if call.acknowledged_at is not None:
        raise CommandRefusedError(
            "conflict",
            f"call {command.call_id} was acknowledged already at {call.acknowledged_at}; the first "
            "acknowledgement counts, and nothing has changed",
        )
    acknowledgement = {"time": format_time(now), "by": command.requester}
    if command.reference:
        acknowledgement["reference"] = command.reference
    return {
        "effect": "call_acknowledged",
        "call_id": command.call_id,
        "acknowledgement": acknowledgement,
    }


def answer_instruction(command: Acknowledge, now: int, context: ControlContext) -> dict[str, Any]:
    """The effect of the venue's answer to an instruction.

    Raises
    ------
    CommandRefusedError
        There is no such instruction, it is not open, or the traded quantity is impossible.
    """
    instruction = context.instruction(command.instruction_id)
    if instruction is None:
        raise CommandRefusedError(
            "not_found", f"there is no instruction {command.instruction_id!r}"
        )
    if not instruction.is_open:
        raise CommandRefusedError(
            "conflict",
            f"instruction {command.instruction_id} is {instruction.state} and takes no answer",
        )
    if command.status == "acknowledged" and instruction.state == "acknowledged":
        raise CommandRefusedError(
            "conflict", f"instruction {command.instruction_id} is acknowledged already"
        )
    _check_quantity(command, instruction)
    given = {"quantity": command.quantity, "price": command.price}
    texts = {"reason": command.reason, "reference": command.reference}
    answer: dict[str, Any] = {"status": command.status, "time": format_time(now)}
    answer |= {name: value for name, value in given.items() if value is not None}
    answer |= {name: text for name, text in texts.items() if text}
    answer["by"] = command.requester
    return {"effect": "answered", "instruction_id": command.instruction_id, "answer": answer}


def _call(call_id: str, context: ControlContext) -> CallView:
    call = context.call(call_id)
    if call is None:
        raise CommandRefusedError("not_found", f"there is no call {call_id!r}")
    return call


def _check_quantity(command: Acknowledge, instruction: InstructionView) -> None:
    """Refuse a traded quantity against the instruction, above it, or missing from a fill."""
    wanted = instruction.parameters.get("quantity")
    given = command.quantity
    if given is None:
        if command.status in ("filled", "partly_filled") and wanted is not None:
            raise CommandRefusedError(
                "invalid",
                f"quantity is missing; give what was traded so far of {wanted}, with its sign",
            )
        return
    if command.status not in ("filled", "partly_filled") or wanted is None:
        raise CommandRefusedError(
            "invalid",
            f"quantity is {given}, but status {command.status!r} of instruction kind "
            f"{instruction.kind!r} has none; leave it out",
        )
    bound = abs(float(wanted)) * (1.0 + _ROUNDING)
    if not math.isfinite(given) or given * float(wanted) <= 0.0 or abs(given) > bound:
        raise CommandRefusedError(
            "invalid",
            f"quantity is {given}; give what was traded so far: a part of {wanted}, with its sign",
        )
