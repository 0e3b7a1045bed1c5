"""Apply commands to calls, instructions and controls, each exactly once and in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from enforcement.calls.call import Call, Dispute
from enforcement.calls.call_events import add_acknowledgement
from enforcement.calls.event_log import EventLog
from enforcement.calls.instruction import PREPARING, Instruction
from enforcement.calls.memory import Memory
from enforcement.controls.context import AccountView
from margin.life_cycle.call_rules import enforcement_of
from margin.rules.approval import ApprovalRules
from margin.rules.ruleset import RuleSet
from market.core.clock import SECOND
from monitoring.evaluation.state_engine import StateStep

MOST_DOUBLINGS = 8
"""So often the pause after a rejection doubles: 300 s become 21 hours."""

_ANSWERED: Mapping[str, str] = {
    "acknowledged": "acknowledged",
    "filled": "filled",
    "partly_filled": "partly_filled",
    "rejected": "rejected",
}


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
        state = _ANSWERED[effect["answer"]["status"]]
        after = msgspec.structs.replace(instruction, state=state, answer=dict(effect["answer"]))
        log.add_instruction(after, state, now, rules)
        if state in ("filled", "partly_filled"):
            part = _traded_part(after)
            memory.resources = memory.resources.after_fill(after.parameters, part)
        _pace(log, instruction, state, now, rules)
    elif kind == "delivery_skipped":
        log.skipped.append((effect["event_id"], effect["sink"], effect["reason"]))
    elif kind in ("disputed", "dispute_resolved"):
        call = memory.find(effect["call_id"])
        if call is None:
            return
        if kind == "disputed":
            dispute = msgspec.convert(dict(effect["dispute"]), Dispute)
            memory.keep(msgspec.structs.replace(call, dispute=dispute))
        else:
            memory.keep(call.without_dispute(effect["outcome"]))


def _traded_part(one: Instruction) -> float:
    """Part of an instruction that was carried out; of one without a quantity all of it."""
    wanted, traded = one.parameters.get("quantity"), (one.answer or {}).get("quantity")
    return 1.0 if wanted is None or traded is None else abs(float(traded) / float(wanted))


def _pace(log: EventLog, instruction: Instruction, state: str, now: int, rules: RuleSet) -> None:
    """Say when the next step of a liquidation may follow an answer of the venue.

    After a fill it waits until the venue has told of the account; after the k-th rejection in turn
    for ``instruction_seconds * 2 ** k``, `MOST_DOUBLINGS` times at most.
    """
    call = log.memory.calls.get(instruction.account_id)
    if call is None or call.progress is None or instruction.kind in PREPARING:
        return
    wait = enforcement_of(rules).instruction_seconds * SECOND
    progress = dict(call.progress)
    if state in ("filled", "partly_filled"):
        progress |= {"filled_until": now + round(wait), "rejections": 0}
    elif state == "rejected":
        rejections = int(progress.get("rejections", 0)) + 1
        pause = round(wait * 2.0 ** min(rejections, MOST_DOUBLINGS))
        progress |= {"rejected_until": now + pause, "rejections": rejections}
    log.touch_call(msgspec.structs.replace(call, progress=progress))
