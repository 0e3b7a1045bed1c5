"""Apply commands to calls, instructions and controls, each exactly once and in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from enforcement.calls.answers import answer
from enforcement.calls.call import Call, Dispute
from enforcement.calls.call_events import add_acknowledgement
from enforcement.calls.event_log import EventLog
from enforcement.calls.instruction import Instruction
from enforcement.calls.memory import Memory
from enforcement.controls.context import AccountView
from margin.life_cycle.call_rules import enforcement_of
from margin.rules.approval import ApprovalRules
from margin.rules.ruleset import RuleSet
from monitoring.evaluation.state_engine import StateStep


@dataclass(frozen=True, slots=True)
class StepContext:
    """How things stand at a step, for commands; a `enforcement.controls.context.ControlContext`."""

    memory: Memory
    step: StateStep

    @property
    def approval(self) -> ApprovalRules:
        """The approval matrix in force."""
        return enforcement_of(self.step.ruleset).approval

    @property
    def dispute_hours(self) -> float:
        """How long a dispute may stay open."""
        return enforcement_of(self.step.ruleset).dispute_hours

    def call(self, call_id: str) -> Call | None:
        """An open call."""
        return self.memory.find(call_id)

    def instruction(self, instruction_id: str) -> Instruction | None:
        """An open instruction."""
        return self.memory.instructions.get(instruction_id)

    def account(self, account_id: str) -> AccountView | None:
        """An account of the live book."""
        row = self.step.index.get(account_id)
        if row is None:
            return None
        columns = self.step.columns
        return AccountView(float(columns.floor[row]), float(columns.add_on[row]))


def apply_commands(
    log: EventLog, commands: Iterable[Mapping[str, Any]], step: StateStep
) -> set[str]:
    """End what time ended, then apply commands; all of it goes into the log and its memory.

    Returns
    -------
    Accounts whose calls were acknowledged.
    """
    memory, now = log.memory, step.now
    memory.controls, ended = memory.controls.expired(now)
    for record in ended:
        log.add_control(record, now)
    context, acknowledged = StepContext(memory, step), set[str]()
    for command in commands:
        memory.controls, outcome = memory.controls.apply(command, now, context)
        if outcome.record is None:
            continue
        log.add_control(outcome.record, now)
        for effect in outcome.effects:
            if effect["effect"] == "call_acknowledged":
                acknowledged |= _acknowledge(log, effect, step)
            else:
                _take_effect(log, effect, now, step.ruleset)
    return acknowledged


def _acknowledge(log: EventLog, effect: Mapping[str, Any], step: StateStep) -> set[str]:
    call = log.memory.find(effect["call_id"])
    if call is None:
        return set()
    add_acknowledgement(log, step, call, effect["acknowledgement"])
    return {call.account_id}


def _take_effect(log: EventLog, effect: Mapping[str, Any], now: int, rules: RuleSet) -> None:
    memory, kind = log.memory, effect["effect"]
    if kind == "answered":
        instruction = memory.instructions[effect["instruction_id"]]
        answer(log, instruction, effect["answer"], now, rules)
    elif kind == "delivery_skipped":
        log.skipped.append((effect["event_id"], effect["sink"], effect["reason"]))
    elif kind in ("disputed", "dispute_resolved"):
        call = memory.find(effect["call_id"])
        if call is None:
            return
        if kind == "disputed":
            dispute = msgspec.convert(dict(effect["dispute"]), Dispute)
            log.touch_call(msgspec.structs.replace(call, dispute=dispute))
        else:
            log.touch_call(call.without_dispute(effect["outcome"]))
