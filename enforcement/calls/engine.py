"""The calls of a book, step by step: what opens, meets, misses and ends them.

`CallEngine` is given the figures and the states of accounts at one time and the commands since the
last one. It tells which accounts dispute a call, have met part of it or are suspended, takes the
transitions that follow, and makes of them the events that are recorded. It has no clock and no
storage: the monitor of a live book and the replay of a history drive the same engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from enforcement.calls.call import Call, CallKind, Cure, time_or_none
from enforcement.calls.call_events import CallFacts, add_event, new_call
from enforcement.calls.commands import apply_commands
from enforcement.calls.cures import LEAST, Credit, credits_of, cures_since
from enforcement.calls.event_log import EventLog
from enforcement.calls.liquidator import Acts, Liquidator
from enforcement.calls.memory import Memory
from enforcement.controls.control_state import ControlState
from margin.life_cycle.advance import Levels, advice_bits, outstanding
from margin.life_cycle.call_rules import CallRules, enforcement_of
from margin.life_cycle.states import OPEN_CALL, Reason, State, States, Transitions
from margin.rules.enforcement import CALL_TYPES
from market.core.arrays import Bools, Floats
from market.core.instruments import parse_instrument
from monitoring.evaluation.passes.state_inputs import StateInputs, class_rows, margin_status
from monitoring.evaluation.state_engine import StateStep

EVENT_OF: Mapping[Reason, str] = {
    Reason.MARGIN_CALL: "opened",
    Reason.PARTLY_MET: "partly_met",
    Reason.CALL_MET: "met",
    Reason.DEADLINE_MISSED: "deadline_missed",
    Reason.GRACE_ENDED: "grace_ended",
    Reason.STOP_OUT: "stop_out",
    Reason.REINSTATED: "reinstated",
    Reason.POSITIONS_CLOSED: "closed",
    Reason.BACKSTOP: "taken_over",
    Reason.BANKRUPT: "bad_debt",
    Reason.DEBT_COVERED: "closed",
    Reason.DISPUTE: "disputed",
    Reason.DISPUTE_ENDED: "dispute_resolved",
}
"""The event of a call that a transition makes."""

_OPEN_LABELS = frozenset(State(code).label for code in OPEN_CALL)
_CALLED = frozenset({*_OPEN_LABELS, State.REDUCE_ONLY.label})


def type_bits(types: Sequence[str]) -> int:
    """Types of calls by name as bits, see `margin.life_cycle.states.States.types`."""
    return sum(1 << CALL_TYPES.index(name) for name in types if name in CALL_TYPES)


def concerned(controls: ControlState, step: StateStep, mode: str) -> Bools | None:
    """Accounts of a step that a mode concerns, shape (N,); None where it is off.

    A mode of one market concerns the accounts that hold a position there.
    """
    count = len(step.names)
    if mode in controls.mode():
        return np.ones(count, dtype=np.bool_)
    markets = {symbol for symbol in controls.modes if mode in controls.mode(symbol)}
    if not markets:
        return None
    book = step.book()
    held = [parse_instrument(name).symbol in markets for name in book.leg_instrument]
    rows: Bools = np.zeros(count, dtype=np.bool_)
    rows[np.repeat(np.arange(count), np.diff(book.leg_start))[np.array(held, dtype=np.bool_)]] = (
        True
    )
    return rows


def _rows(names: Iterable[str], step: StateStep) -> list[int]:
    """Those of some accounts that a step is about, in its order."""
    return sorted(step.index[name] for name in names if name in step.index)


class CallEngine:
    """Calls of a book.

    Parameters
    ----------
    memory:
        Open calls, numbers of events and controls; taken over.

    Attributes
    ----------
    log:
        Events since they were written last.
    acts:
        What the newest step told the venue.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.log = EventLog(memory)
        self.acts = Acts({}, {})
        self._liquidator = Liquidator(self.log)
        self._credits: dict[str, Credit] = {}
        self._inputs = StateInputs()

    def inputs(self, step: StateStep, commands: Iterable[Mapping[str, Any]] = ()) -> StateInputs:
        """Enforcement's part in the states of the accounts of a step.

        Parameters
        ----------
        step:
            The accounts.
        commands:
            New commands, which are applied before; only with a step of all accounts.
        """
        memory, now = self.memory, step.now
        acknowledged = apply_commands(self.log, commands, step)
        waits = enforcement_of(step.ruleset).waiting_hours > 0.0
        self._credits = self._credit(step)
        self._expire_disputes(now)
        index = step.index
        flags = {
            name: np.zeros(len(step.names), dtype=np.bool_)
            for name in (
                *("credited", "disputed", "undisputed", "taken_over"),
                *("acknowledged", "clock_starts"),
            )
        }
        for name, call in memory.calls.items():
            i = index.get(name)
            if i is None:
                continue
            flags["credited"][i] = call.credited >= LEAST
            flags["disputed"][i] = call.dispute is not None
            flags["undisputed"][i] = call.undisputed
            flags["taken_over"][i] = bool((call.progress or {}).get("taken_over"))
            flags["acknowledged"][i] = waits and call.acknowledged_at is not None
            # An approved override of the deadline stays in force.
            flags["clock_starts"][i] = (
                waits and name in acknowledged and memory.controls.deadline(call.call_id) is None
            )
        for one in memory.instructions.values():
            # The venue may report the account before it answers.
            if one.kind == "transfer_to_backstop" and one.account_id in index:
                flags["taken_over"][index[one.account_id]] = True
        suspended, floor_only = (
            concerned(memory.controls, step, mode) for mode in ("no_calls", "rules_only")
        )
        self._inputs = StateInputs(
            {name: flag for name, flag in flags.items() if flag.any()}
            | ({} if suspended is None else {"suspended": suspended})
            | ({} if floor_only is None else {"floor_only": floor_only}),
            {name: x for name, x in memory.controls.add_ons(now).items() if name in index},
            {
                call.account_id: time
                for call in memory.calls.values()
                if call.account_id in index
                and (time := memory.controls.deadline(call.call_id)) is not None
            },
        )
        return self._inputs

    def outcome(self, step: StateStep, after: States, transitions: Transitions) -> bool:
        """Make events of the new states; whether there is something to write."""
        facts = self._facts(step, after)
        seen = self._end_covered_debts(facts)
        for i, before, state, reason in zip(
            transitions.account.tolist(),
            transitions.before.tolist(),
            transitions.after.tolist(),
            transitions.reason.tolist(),
            strict=True,
        ):
            if self._take(facts, i, State(before), State(state), Reason(reason)):
                seen.add(step.names[i])
        self._follow_open_calls(facts, seen)
        self._follow_advice(facts)
        self.acts = self._liquidator.act(facts)
        return bool(self.log)

    def _end_covered_debts(self, facts: CallFacts) -> set[str]:
        """End the calls of bankrupt accounts that hold positions again and owe nothing any more.

        Their states have begun anew, so a further call is one of its own. Gives the accounts.
        """
        debt, closed, ended = State.BAD_DEBT, State.CLOSED, set[str]()
        calls = [call for call in self.memory.calls.values() if call.state == debt.label]
        for call in calls:
            i = facts.step.index.get(call.account_id)
            if i is None or not facts.known[i] or not facts.status.positions[i]:
                continue
            if facts.after.state[i] != debt and facts.status.equity[i] >= 0.0:
                cures = self._cures(facts, i, call)
                reason, states = Reason.DEBT_COVERED.code, (debt.label, closed.label)
                add_event(self.log, facts, i, call, "closed", reason, states, cures)
                ended.add(call.account_id)
        return ended

    def _credit(self, step: StateStep) -> dict[str, Credit]:
        """What updates of called accounts did, added to what met their calls."""
        memory = self.memory
        earlier = {name: old for name, old in step.earlier.items() if name in memory.calls}
        rows = _rows(earlier, step)
        ordered = {step.names[i]: earlier[step.names[i]] for i in rows}
        view = step.snapshot.view() if ordered else None
        if view is None:
            return {}
        found = credits_of(
            ordered, step.names, step.amounts[rows], step.columns, view, step.ruleset
        )
        for name, credit in found.items():
            call = memory.calls[name].with_credit(credit.total)
            if earlier[name].positions == step.account(name).positions:
                call = call.with_repayment(credit.funds)
            memory.calls[name] = call
        return found

    def _expire_disputes(self, now: int) -> None:
        for name, call in self.memory.calls.items():
            until = None if call.dispute is None else time_or_none(call.dispute.until)
            if until is not None and until <= now:
                self.memory.calls[name] = call.without_dispute("expired")

    def _facts(self, step: StateStep, after: States) -> CallFacts:
        """Figures of the accounts of a step for the events that it makes."""
        status = margin_status(step.columns, step.names, self._inputs)
        count = len(step.names)
        bits, advice = np.zeros((2, count), dtype=np.int8)
        for name, call in self.memory.calls.items():
            i = step.index.get(name)
            if i is not None:
                bits[i] = type_bits(call.types)
        missing: Floats = np.zeros(count)
        for client_class, rows in class_rows(step.names, step.ruleset).items():
            rules = CallRules.of(step.ruleset, client_class)
            part = status.take(rows)
            breached = np.packbits(Levels.of(part, rules).breached, axis=1, bitorder="little")
            now = after.types[rows] | breached[:, 0].astype(np.int8)
            # A call that ends with this step is measured by the types that it had.
            bits[rows] = np.where(now & ~advice_bits(rules), now, now | bits[rows])
            advice[rows] = after.types[rows] & advice_bits(rules)
            missing[rows] = outstanding(part, rules, bits[rows])
        return CallFacts(step, after, status, bits, advice, missing)

    def _take(self, facts: CallFacts, i: int, before: State, state: State, reason: Reason) -> bool:
        """Make the event of one transition; whether it is one of a call."""
        event = EVENT_OF.get(reason)
        name = facts.step.names[i]
        call = self.memory.calls.get(name)
        if event is None or (call is None and event not in ("opened", "stop_out")):
            return False
        if call is None:
            kind: CallKind = "call" if event == "opened" else "liquidation"
            call = new_call(facts, i, kind, self.memory.sequence(name))
        if reason == Reason.DISPUTE_ENDED and call.dispute_end == "expired":
            event = "dispute_expired"
        cures = self._cures(facts, i, call) if event != "opened" else ()
        states = before.label, state.label
        add_event(self.log, facts, i, call, event, reason.code, states, cures)
        return True

    def _cures(self, facts: CallFacts, i: int, call: Call) -> Sequence[Cure]:
        credit = self._credits.pop(call.account_id, None)
        missing = facts.figure(facts.missing, i, call.outstanding)
        add_on = facts.figure(facts.status.add_on, i, call.figures.add_on)
        return cures_since(
            call.outstanding, missing, call.figures.add_on, add_on, credit, facts.step.now
        )

    def _follow_open_calls(self, facts: CallFacts, seen: set[str]) -> None:
        """Events of calls whose account stayed in its state: credits, re-calls, other deadlines."""
        step, recall = facts.step, 1.0 + enforcement_of(facts.step.ruleset).recall_share
        calls = self.memory.calls
        for i in _rows(calls, step):
            call = calls.get(step.names[i])
            if call is None or call.account_id in seen:
                continue
            missing, known = float(facts.missing[i]), bool(facts.known[i])
            called = call.state in _CALLED
            credit = self._credits.get(call.account_id)
            event = reason = ""
            if called and known and missing > call.amount * recall + LEAST:
                event, reason = "raised", "margin_call"
            elif credit is not None and abs(credit.total) >= LEAST:
                event, reason = "credited", "account_update"
            elif called and facts.deadlines(i) != call.deadlines:
                event, reason = "deadline_moved", "types"
                starts = self._inputs.flags.get("clock_starts")
                if starts is not None and starts[i]:
                    reason = "acknowledgement"
                if self.memory.controls.deadline(call.call_id) is not None:
                    reason = "override"
            if event:
                cures = self._cures(facts, i, call)
                states = call.state, call.state
                add_event(self.log, facts, i, call, event, reason, states, cures)

    def _follow_advice(self, facts: CallFacts) -> None:
        """Open and end advice, which changes no state."""
        advised, names = self.memory.advice, facts.step.names
        rows = np.flatnonzero(facts.advice).tolist()
        for i in sorted({*rows, *_rows(advised, facts.step)}):
            name = names[i]
            label = State(facts.after.state[i]).label
            advice, wanted = advised.get(name), bool(facts.advice[i])
            if advice is None and wanted:
                new = new_call(facts, i, "advice", self.memory.sequence(name))
                add_event(self.log, facts, i, new, "opened", "margin_call", (label, label), ())
            elif advice is not None and not wanted:
                cures = self._cures(facts, i, advice)
                add_event(self.log, facts, i, advice, "met", "call_met", (label, label), cures)
