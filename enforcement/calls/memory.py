"""What enforcement remembers between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from enforcement.calls.call import Call
from enforcement.calls.instruction import Instruction
from enforcement.controls.control_state import ControlState
from enforcement.liquidation.resources import DefaultResources
from market.core.clock import parse_time


@dataclass(slots=True)
class Memory:
    """Open calls and instructions of a book, and the numbers of its events.

    Attributes
    ----------
    controls:
        Modes and overrides.
    calls, advice:
        The open call, and the open advice, of each account that has one.
    instructions:
        Open instructions by their ids.
    sequences:
        Number of each account's newest event.
    resources:
        Fund, and what winners and others have borne.
    """

    controls: ControlState = field(default_factory=ControlState)
    calls: dict[str, Call] = field(default_factory=dict)
    advice: dict[str, Call] = field(default_factory=dict)
    instructions: dict[str, Instruction] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    resources: DefaultResources = field(default_factory=DefaultResources)

    def sequence(self, account_id: str) -> int:
        """Number of an account's newest event; 0 before any."""
        return self.sequences.get(account_id, 0)

    def next_sequence(self, account_id: str) -> int:
        """Number of the account's next event, which counts from now on."""
        number = self.sequence(account_id) + 1
        self.sequences[account_id] = number
        return number

    def keep(self, call: Call) -> None:
        """Keep a call as it is after an event."""
        kept = self.advice if call.kind == "advice" else self.calls
        if call.is_open:
            kept[call.account_id] = call
        else:
            kept.pop(call.account_id, None)
        self.sequences[call.account_id] = max(self.sequence(call.account_id), call.sequence)

    def due(self, now: int) -> bool:
        """Whether a dispute, an instruction or an override has expired at a time."""
        disputes = (call.dispute for call in self.calls.values() if call.dispute is not None)
        times = [dispute.until for dispute in disputes]
        times += [one.expires_at for one in self.instructions.values()]
        return any(parse_time(time) <= now for time in times) or bool(self.controls.expired(now)[1])

    def find(self, call_id: str) -> Call | None:
        """An open call by its id; None where there is none."""
        every = (*self.calls.values(), *self.advice.values())
        return next((call for call in every if call.call_id == call_id), None)

    def open_instructions(self, account_id: str) -> list[Instruction]:
        """The open instructions of an account."""
        return [one for one in self.instructions.values() if one.account_id == account_id]
