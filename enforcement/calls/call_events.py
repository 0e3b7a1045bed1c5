"""Events of calls in the form that is recorded, and the calls after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from enforcement.calls.call import (
    NEWEST_CURES,
    AccountFigures,
    Call,
    CallKind,
    Cure,
    Opening,
    call_id,
)
from enforcement.calls.cures import LEAST
from enforcement.calls.event_log import EventLog
from margin.life_cycle.states import NEVER, MarginStatus, State, States
from margin.rules.enforcement import CALL_TYPES
from market.core.arrays import Bools, Floats
from market.core.clock import format_time
from monitoring.evaluation.state_engine import StateStep

ENDING = frozenset({"met", "reinstated", "closed", "taken_over", "cancelled"})
"""Events that end a call."""

_DISPUTED = State.DISPUTED.label


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

    def figures(self, i: int) -> AccountFigures:
        """AccountFigures of an account; all 0 where it cannot be valued."""
        if not self.known[i]:
            return AccountFigures(*(0.0,) * len(msgspec.structs.fields(AccountFigures)))
        columns, status = self.step.columns, self.status
        opening = status.opening
        return AccountFigures(
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


def add_event(
    log: EventLog,
    facts: CallFacts,
    i: int,
    call: Call,
    event: str,
    reason: str,
    states: tuple[str, str],
    cures: Sequence[Cure],
) -> Call:
    """Record an event of a call; gives the call after it.

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
    """
    now, known = format_time(facts.step.now), bool(facts.known[i])
    missing = facts.figure(facts.missing, i, call.outstanding)
    ends = event in ENDING
    timed = call.kind != "advice" and not ends
    called = missing if event == "raised" else call.amount
    after = msgspec.structs.replace(
        call,
        types=call.types if ends else facts.types(i, call.kind) or call.types,
        state=states[1],
        amount=max(0.0, missing) if call.number == 0 else called,
        outstanding=max(0.0, missing),
        figures=facts.figures(i) if known else call.figures,
        deadlines=facts.deadlines(i) if timed else {},
        deadline=facts.deadline(i) if timed else None,
        cures=(*call.cures, *cures)[-NEWEST_CURES:],
        number=call.number + 1,
        sequence=log.memory.next_sequence(call.account_id),
        closed_at=now if ends else None,
    )
    if after.dispute is not None and after.state != _DISPUTED:
        after = after.without_dispute(event)
    chain, seq = facts.step.event
    payload = call_payload(after, event, reason, (states[0], cures))
    payload["trigger"] = {"chain": chain, "seq": seq}
    log.add_call(after, payload, facts.step.now, facts.step.ruleset)
    return after


def add_acknowledgement(
    log: EventLog, step: StateStep, call: Call, acknowledgement: Mapping[str, Any]
) -> None:
    """Record that a call was acknowledged; it stays as it is otherwise.

    Parameters
    ----------
    acknowledgement:
        Its ``time``, ``by`` whom, and the ``reference``, if one was given.
    """
    after = msgspec.structs.replace(
        call,
        acknowledged_at=acknowledgement["time"],
        number=call.number + 1,
        sequence=log.memory.next_sequence(call.account_id),
    )
    payload = call_payload(after, "acknowledged", "acknowledgement", (call.state, ()))
    chain, seq = step.event
    payload["trigger"] = {"chain": chain, "seq": seq}
    payload["acknowledgement"] = dict(acknowledgement)
    log.add_call(after, payload, step.now, step.ruleset)


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
