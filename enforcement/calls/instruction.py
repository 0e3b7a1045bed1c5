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
    """An instruction as it stands; times are ISO 8601."""

    instruction_id: str
    """Id of the instruction, 32 hexadecimal digits."""
    call_id: str
    """Id of the call that it was given for."""
    account_id: str
    """Id of the account to act on."""
    kind: InstructionKind
    """What the venue is to do."""
    parameters: dict[str, Any]
    """Of a close: `instrument`, the signed `quantity` to trade, `limit_price`; of another kind what
    it needs, or empty."""
    state: InstructionState
    """State by its newest event."""
    issued_at: str
    """When it was given."""
    expires_at: str
    """When it counts as unanswered."""
    step: int
    """Step of the liquidation."""
    number: int = 0
    """Number of its newest event within the instruction."""
    sequence: int = 0
    """Number of its newest event within the account."""
    answer: dict[str, Any] | None = None
    """The venue's newest answer; null before one."""

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
