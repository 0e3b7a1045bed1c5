"""Events of calls in the form that is recorded, and the calls after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from enforcement.calls.call import Call, CallKind, Cure, Figures, Opening, call_id
from enforcement.calls.cures import LEAST
from enforcement.calls.memory import Memory
from ledger.records import Entry
from margin.life_cycle.states import NEVER, MarginStatus, States
from margin.rules.enforcement import CALL_TYPES
from market.core.arrays import Bools, Floats
from market.core.clock import format_time
from monitoring.evaluation.state_engine import StateStep

CALL = "call"
"""Kind of the records of events of calls."""


@dataclass(frozen=True)
class CallFacts:
    """What the events of a step rest on.

    Attributes
    ----------
    step:
        Accounts, figures, market and rules.
    after:
        States of the accounts after the step.
    status:
        Margin status that moved them.
    bits:
        Types of calls that are unmet or breached, bit by bit, shape (N,).
    advice:
        Those of them that are advice, shape (N,).
    missing:
        What is outstanding for these types, shape (N,).
    """

    step: StateStep
    after: States
    status: MarginStatus
    bits: Any
    advice: Any
    missing: Floats

    @cached_property
    def known(self) -> Bools:
        """Accounts with figures, shape (N,)."""
        status = self.status
        known: Bools = np.isfinite(status.equity) & np.isfinite(status.maintenance)
        return known

    def figure(self, column: Floats, i: int, otherwise: float) -> float:
        """A figure of an account, or another one where the account has none."""
        return float(column[i]) if self.known[i] else otherwise

    def types(self, i: int, kind: str) -> tuple[str, ...]:
        """Names of the types of an account's call, or of its advice."""
        advice = int(self.advice[i])
        bits = advice if kind == "advice" else int(self.bits[i]) & ~advice
        return tuple(name for k, name in enumerate(CALL_TYPES) if bits >> k & 1)

    def deadlines(self, i: int) -> dict[str, str]:
        """Deadline of each type of an account's call."""
        return {
            CALL_TYPES[k]: format_time(time)
            for k, time in enumerate(self.after.deadlines[i].tolist())
            if time != NEVER
        }

    def deadline(self, i: int) -> str | None:
        """When time alone changes an account's state."""
        time = int(self.after.deadline[i])
        return None if time == NEVER else format_time(time)

    def figures(self, i: int) -> Figures:
        """Figures of an account; all 0 where it cannot be valued."""
        if not self.known[i]:
            return Figures(*(0.0,) * len(msgspec.structs.fields(Figures)))
        columns, status = self.step.columns, self.status
        opening = status.opening
        return Figures(
            equity=float(status.equity[i]),
            maintenance_margin=float(status.maintenance[i]),
            initial_margin=float(columns.initial_margin[i]),
            opening_requirement=0.0 if opening is None else float(opening[i]),
            add_on=float(status.add_on[i]),
            cash=float(columns.cash[i]),
            headroom=float(columns.headroom[i]),
            gross_notional=float(columns.gross_notional[i]),
        )


def new_call(facts: CallFacts, i: int, kind: CallKind, sequence: int) -> Call:
    """A call that opens with a step, before its first event.

    Parameters
    ----------
    i:
        Row of the account.
    sequence:
        Number of the account's newest event.
    """
    step = facts.step
    name, (chain, seq), now = step.names[i], step.event, format_time(step.now)
    return Call(
        call_id=call_id(name, kind, step.now, sequence + 1),
        account_id=name,
        kind=kind,
        types=facts.types(i, kind),
        state="",
        opened_at=now,
        opening=Opening(now, chain, seq),
        amount=0.0,
        outstanding=facts.figure(facts.missing, i, 0.0),
        figures=facts.figures(i),
        sequence=sequence,
    )


@dataclass(slots=True)
class EventLog:
    """Events that are to be recorded, and the calls that they changed; the memory moves with them.

    Attributes
    ----------
    memory:
        Open calls and numbers of events.
    entries:
        Of the chain ``enforcement``, in their order.
    calls:
        Each changed call as it is now, and the place of its newest event among the entries.
    """

    memory: Memory
    entries: list[Entry] = field(default_factory=list)
    calls: dict[str, tuple[Call, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def clear(self) -> None:
        """Forget what was written."""
        self.entries, self.calls = [], {}

    def add(
        self,
        facts: CallFacts,
        i: int,
        call: Call,
        event: str,
        reason: str,
        states: tuple[str, str],
        cures: Sequence[Cure],
        *,
        ends: bool = False,
    ) -> Call:
        """Add an event of a call; gives the call after it.

        Parameters
        ----------
        i:
            Row of the account.
        event, reason:
            What happened, and why.
        states:
            Labels of the account's state before and after.
        cures:
            What changed the outstanding amount since the newest event.
        ends:
            The call ends with it.
        """
        now, known = format_time(facts.step.now), bool(facts.known[i])
        missing = facts.figure(facts.missing, i, call.outstanding)
        unmet = facts.types(i, call.kind) or call.types
        after = msgspec.structs.replace(
            call,
            types=call.types if ends else unmet,
            state=states[1],
            amount=max(call.amount, missing) if event in ("opened", "stop_out") else call.amount,
            outstanding=max(0.0, missing),
            figures=facts.figures(i) if known else call.figures,
            deadlines={} if call.kind == "advice" or ends else facts.deadlines(i),
            deadline=None if call.kind == "advice" or ends else facts.deadline(i),
            cures=(*call.cures, *cures)[-20:],
            number=call.number + 1,
            sequence=self.memory.sequence(call.account_id) + 1,
            closed_at=now if ends else None,
        )
        if event == "raised":
            after = msgspec.structs.replace(after, amount=missing)
        if call.dispute is not None and after.state != "disputed" and event != "opened":
            after = after.without_dispute(event)
        self.put(after, event, reason, (states[0], cures), facts)
        return after

    def put(
        self,
        call: Call,
        event: str,
        reason: str,
        before: tuple[str, Sequence[Cure]],
        facts: CallFacts,
    ) -> None:
        """Keep a call after its newest event, and record the event."""
        chain, seq = facts.step.event
        payload = call_payload(call, event, reason, before) | {
            "trigger": {"chain": chain, "seq": seq},
            "ruleset_sha256": facts.step.ruleset.sha256,
            "contents": {"ruleset_sha256": facts.step.ruleset.sha256},
        }
        self.entries.append(
            Entry(CALL, payload, f"{call.call_id}-{call.number}", call.account_id, facts.step.now)
        )
        self.calls[call.call_id] = call, len(self.entries) - 1
        self.memory.keep(call)


def call_payload(
    call: Call, event: str, reason: str, before: tuple[str, Sequence[Cure]]
) -> dict[str, Any]:
    """An event as it is recorded; `before` is the state before it and what met the call since."""
    state_before, cures = before
    figures: Mapping[str, Any] = msgspec.to_builtins(call.figures)
    return {
        "event": event,
        "call_id": call.call_id,
        "number": call.number,
        "account_id": call.account_id,
        "scope": call.scope,
        "kind": call.kind,
        "types": list(call.types),
        "state_before": state_before,
        "state": call.state,
        "reason": reason,
        "amount": call.amount,
        "outstanding": call.outstanding,
        "credited": call.credited,
        "deadline": call.deadline,
        "deadlines": dict(call.deadlines),
        "dispute": None if call.dispute is None else msgspec.to_builtins(call.dispute),
        "figures": dict(figures),
        "cures": [msgspec.to_builtins(cure) for cure in cures if abs(cure.amount) >= LEAST],
        "sequence": call.sequence,
    }
