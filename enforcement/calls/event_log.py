"""What a step caused and is to be written: records in their order, and what they changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from enforcement.calls.call import Call
from enforcement.calls.instruction import Instruction
from enforcement.calls.memory import Memory
from enforcement.controls.commands import CONTROL, control_id
from ledger.records import Entry
from margin.rules.ruleset import RuleSet

CALL = "call"
INSTRUCTION = "instruction"
RESOURCES = "default_resources"
"""Kinds of records of the chain, besides those of controls."""


@dataclass(slots=True)
class EventLog:
    """Events that are to be recorded; the memory moves with them.

    Attributes
    ----------
    memory:
        Open calls and instructions, and numbers of events.
    entries:
        Of the chain ``enforcement``, in their order.
    calls, instructions:
        Each changed one as it is now, and the place of its newest event among the entries.
    skipped:
        Notifications that a person gave up: event, sink and reason.
    """

    memory: Memory
    entries: list[Entry] = field(default_factory=list)
    calls: dict[str, tuple[Call, int]] = field(default_factory=dict)
    instructions: dict[str, tuple[Instruction, int]] = field(default_factory=dict)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def clear(self) -> None:
        """Forget what was written."""
        self.entries, self.calls, self.instructions, self.skipped = [], {}, {}, []

    def add_call(self, call: Call, payload: Mapping[str, Any], now: int, rules: RuleSet) -> None:
        """Record an event of a call, and keep the call as it is after it."""
        self._append(CALL, f"{call.call_id}-{call.number}", call.account_id, payload, now, rules)
        self.calls[call.call_id] = call, len(self.entries) - 1
        self.memory.keep(call)

    def touch_call(self, call: Call) -> None:
        """Keep a call that the newest event changed besides."""
        self.calls[call.call_id] = call, len(self.entries) - 1
        self.memory.keep(call)

    def add_instruction(self, after: Instruction, event: str, now: int, rules: RuleSet) -> None:
        """Record an event of an instruction, and keep the instruction as it is after it."""
        memory = self.memory
        after = msgspec.structs.replace(
            after,
            number=after.number + 1,
            sequence=memory.next_sequence(after.account_id),
        )
        payload = {"event": event, **after.content(), "deadline": after.expires_at}
        del payload["expires_at"]
        name = f"{after.instruction_id}-{after.number}"
        self._append(INSTRUCTION, name, after.account_id, payload, now, rules)
        self.instructions[after.instruction_id] = after, len(self.entries) - 1
        if after.is_open:
            memory.instructions[after.instruction_id] = after
        else:
            memory.instructions.pop(after.instruction_id, None)

    def add_resources(
        self, place: tuple[str, str, str], amounts: Mapping[str, Any], now: int, rules: RuleSet
    ) -> int:
        """Record who bears what the account of a call owes.

        Parameters
        ----------
        place:
            The account, its call, and the id of the record.
        amounts:
            See `enforcement.liquidation.resources.settlement_payload`.

        Returns
        -------
        The number of the event within the account.
        """
        account_id, call_id, name = place
        number = self.memory.next_sequence(account_id)
        payload = {"account_id": account_id, "call_id": call_id, **amounts, "sequence": number}
        self._append(RESOURCES, name, account_id, payload, now, rules)
        return number

    def add_control(self, record: Mapping[str, Any], now: int) -> None:
        """Record what a command changed, or which override time ended."""
        command = record.get("command_id")
        if command is not None:
            name = control_id(str(command))
        else:
            name = f"{record['overrides'][0]['override_id']}-expired"
        self.entries.append(Entry(CONTROL, dict(record), name, as_of=now))

    def _append(
        self,
        kind: str,
        name: str,
        account_id: str,
        payload: Mapping[str, Any],
        now: int,
        rules: RuleSet,
    ) -> None:
        named = {"ruleset_sha256": rules.sha256}
        content = {**payload, **named, "contents": named}
        self.entries.append(Entry(kind, content, name, account_id, now))
