"""An instruction to the venue: what it is to do with an account, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

InstructionKind = Literal[
    "cancel_orders", "reduce_only", "close", "transfer_to_backstop", "auction", "deleverage"
]

InstructionState = Literal[
    "issued",
    "acknowledged",
    "filled",
    "partly_filled",
    "rejected",
    "timed_out",
    "cancelled",
]

PREPARING: tuple[InstructionKind, ...] = ("cancel_orders", "reduce_only")
"""No step of a liquidation waits for the answer to these."""

OPEN_STATES: tuple[InstructionState, ...] = ("issued", "acknowledged")


class Instruction(Struct, frozen=True, forbid_unknown_fields=True):
    """An instruction as it stands; times are ISO 8601.

    Attributes
    ----------
    instruction_id, call_id, account_id, kind:
        What it is, for which call; see `enforcement.calls.call.instruction_id`.
    parameters:
        Of a close: ``instrument``, the signed ``quantity`` to trade, ``limit_price``.
    state:
        By its newest event.
    issued_at, expires_at:
        When it was given, and when it counts as unanswered.
    step:
        Of the liquidation.
    number, sequence:
        Of its newest event, within the instruction and within the account.
    answer:
        The venue's newest answer.
    """

    instruction_id: str
    call_id: str
    account_id: str
    kind: InstructionKind
    parameters: dict[str, Any]
    state: InstructionState
    issued_at: str
    expires_at: str
    step: int
    number: int = 0
    sequence: int = 0
    answer: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the venue has still to act on it."""
        return self.state in OPEN_STATES

    def content(self) -> dict[str, Any]:
        """As its row holds it."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> Instruction:
        """The instruction of a row; raises `msgspec.ValidationError` where it is none."""
        return msgspec.convert(dict(content), cls)
