"""Instructions to the venue for accounts that missed a call or are liquidated, and their debts.

An account gets the instructions of one step; the next step waits until the venue has answered all
of them, or until they have expired. What it owes without positions is settled by the default
resources of the rule set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import msgspec
import numpy as np

from enforcement.calls.answers import binds_winner, take_back
from enforcement.calls.call import Call, instruction_id
from enforcement.calls.call_events import CallFacts
from enforcement.calls.cures import LEAST
from enforcement.calls.event_log import EventLog
from enforcement.calls.instruction import (
    PREPARING,
    Instruction,
    InstructionKind,
    InstructionState,
)
from enforcement.liquidation.plan import (
    Draft,
    Plan,
    Progress,
    held_quantity,
    held_when_given,
    plan_step,
)
from enforcement.liquidation.resources import Bearer, Settlement, settlement_payload
from margin.book.requirement import compute_requirement
from margin.life_cycle.call_rules import enforcement_of
from margin.life_cycle.states import State
from margin.liquidation.shortfall import ClosedPosition
from margin.liquidation.waterfall import Survivors
from market.core.arrays import Ints
from market.core.clock import SECOND, format_time, parse_time
from monitoring.evaluation.state_engine import StateStep

NO_INSTRUCTIONS = "no_instructions"
"""The mode in which the venue is told nothing."""


_KEPT = ("rejections", "settlements", "settled_amount")
"""What a further step keeps of a call's liquidation beside its `Progress`: how often in turn the
venue rejected a step, how often its debt was settled, and how much of what was settled is still on
the account. A step
itself has what it takes off (``closed``), what the venue filled and has not reported yet
(``unseen``) and until when the next one waits after a rejection (``rejected_until``); a debt
whether it is settled (``settled``), and which winners did not bear their part (``refused``)."""


@dataclass(slots=True)
class Acts:
    """What a step told the venue, for a replay that carries it out itself.

    Attributes
    ----------
    plans:
        Steps of liquidations, by account.
    settlements:
        Debts that were settled, by account.
    """

    plans: dict[str, Plan]
    settlements: dict[str, Settlement]


class Liquidator:
    """Gives the instructions of a book.

    Parameters
    ----------
    log:
        Where they are recorded.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def act(self, facts: CallFacts) -> Acts:
        """Do what is due after a step: end, give and renew instructions, and settle debts."""
        memory, step = self._log.memory, facts.step
        memory.resources = memory.resources.under(step.ruleset)
        acts = Acts({}, {})
        waiting = self._end_instructions(facts)
        for _, call in _in_state(facts, memory.calls, State.LIQUIDATING):
            self._owe_again(call)
        if NO_INSTRUCTIONS in memory.controls.mode():
            return acts
        controls = memory.controls
        withheld = {name for name in controls.modes if NO_INSTRUCTIONS in controls.mode(name)}
        for i, call in _in_state(facts, memory.calls, State.REDUCE_ONLY):
            if call.account_id not in waiting and call.progress is None:
                self._restrict(facts, i, call)
        for i, call in _in_state(facts, memory.calls, State.LIQUIDATING):
            if call.account_id not in waiting and facts.known[i]:
                plan = self._step(facts, i, call, withheld)
                if plan is not None:
                    acts.plans[call.account_id] = plan
        if step.whole and not self._is_borne_by_others(step):
            self._settle_debts(facts, acts)
        return acts

    def _is_borne_by_others(self, step: StateStep) -> bool:
        """Whether winners and others have still to bear their part of an earlier debt.

        What they hold then is not known: a further debt would be shared by what they held before.
        """
        memory = self._log.memory
        memory.resources = memory.resources.without_bearers(
            bearer.account_id
            for bearer in memory.resources.bearers
            if bearer.until <= step.now or _has_borne(bearer, step)
        )
        open_ones = any(binds_winner(one) for one in memory.instructions.values())
        return open_ones or bool(memory.resources.bearers)

    def _settle_debts(self, facts: CallFacts, acts: Acts) -> None:
        """Settle debts in the order of the accounts, up to the first one that others bear.

        The next one is settled once winners and others are as that one leaves them.
        """
        debts = [
            (i, call)
            for i, call in _in_state(facts, self._log.memory.calls, State.BAD_DEBT)
            if facts.known[i] and _unsettled(facts, i, call) >= LEAST
        ]
        if not debts:
            return
        survivors = _survivors(facts)
        for i, call in debts:
            settled = self._settle(facts, i, call, survivors)
            acts.settlements[call.account_id] = settled
            if settled.accounts:
                return

    def _owe_again(self, call: Call) -> None:
        """Let a debt be open again once its account holds positions again after a settlement."""
        if (call.progress or {}).get("settled") and self._log:
            progress = {**(call.progress or {}), "settled": False}
            self._log.touch_call(msgspec.structs.replace(call, progress=progress))

    def _end_instructions(self, facts: CallFacts) -> set[str]:
        """Let instructions expire, and take back those whose account needs none any more.

        Returns
        -------
        Accounts with a step that the venue has still to answer.
        """
        memory, now, waiting = self._log.memory, facts.step.now, set[str]()
        wanted = (State.LIQUIDATING.label, State.REDUCE_ONLY.label)
        for one in sorted(memory.instructions.values(), key=_place):
            call = memory.calls.get(one.account_id)
            needed = binds_winner(one) or (call is not None and call.state in wanted)
            if parse_time(one.expires_at) <= now:
                self._end(one, "timed_out", facts)
            elif not needed and not _has_traded(one, facts.step):
                self._end(one, "cancelled", facts)
            elif one.kind not in PREPARING:
                waiting.add(one.account_id)
        return waiting

    def _end(self, one: Instruction, state: InstructionState, facts: CallFacts) -> None:
        after = msgspec.structs.replace(one, state=state)
        self._log.add_instruction(after, state, facts.step.now, facts.step.ruleset)
        take_back(self._log, after, 1.0, facts.step.now, facts.step.ruleset)

    def _restrict(self, facts: CallFacts, i: int, call: Call) -> None:
        """Tell the venue that an account may only close positions."""
        progress = Progress(since=int(facts.after.since[i]), steps=1)
        drafts = (Draft("cancel_orders", {}), Draft("reduce_only", {}))
        self._give(call, drafts, 0, facts)
        self._keep(call, progress)

    def _step(self, facts: CallFacts, i: int, call: Call, withheld: Collection[str]) -> Plan | None:
        step, since = facts.step, int(facts.after.since[i])
        if not facts.status.positions[i]:
            return None
        known = call.progress or {}
        rejected_until = known.get("rejected_until")
        waits = rejected_until is not None and step.now < int(rejected_until)
        if waits or _fill_is_unseen(call, step):
            return None
        progress = Progress.of_content(known) if "since" in known else Progress(since=since)
        if progress.since != since and progress.steps <= 1:
            progress = Progress(since=since, steps=progress.steps)
        view = step.snapshot.view()
        plan = plan_step(step.account(call.account_id), progress, view, step.ruleset, withheld)
        if not plan.drafts:
            return None
        self._give(call, plan.drafts, progress.steps, facts, plan)
        self._keep(call, plan.progress, plan.closed)
        return plan

    def _give(
        self,
        call: Call,
        drafts: Iterable[Draft],
        number: int,
        facts: CallFacts,
        plan: Plan | None = None,
    ) -> None:
        """Record instructions of a step of a call."""
        step = facts.step
        expires = step.now + round(enforcement_of(step.ruleset).instruction_seconds * SECOND)
        for draft in drafts:
            parameters = dict(draft.parameters)
            if plan is not None:
                parameters["step"] = plan.figures()
            self._issue(call, call.account_id, draft.kind, parameters, number, expires, facts)

    def _issue(
        self,
        call: Call,
        account_id: str,
        kind: str,
        parameters: dict[str, object],
        number: int,
        expires: int,
        facts: CallFacts,
    ) -> None:
        where = f"{account_id}/{parameters.get('instrument', '')}"
        one = Instruction(
            instruction_id(call.call_id, number, kind, where),
            call.call_id,
            account_id,
            msgspec.convert(kind, InstructionKind),
            parameters,
            "issued",
            format_time(facts.step.now),
            format_time(expires),
            number,
        )
        self._log.add_instruction(one, "issued", facts.step.now, facts.step.ruleset)

    def _keep(
        self,
        call: Call,
        progress: Progress,
        closed: Sequence[ClosedPosition] = (),
    ) -> None:
        kept = progress.to_content() | {"closed": [asdict(one) for one in closed]}
        for name in _KEPT:
            if call.progress is not None and name in call.progress:
                kept[name] = call.progress[name]
        self._log.touch_call(msgspec.structs.replace(call, progress=kept))

    def _settle(self, facts: CallFacts, i: int, call: Call, survivors: Survivors) -> Settlement:
        """Settle what an account owes by the default resources of the rule set."""
        log, step, memory = self._log, facts.step, self._log.memory
        progress = dict(call.progress or {})
        closed = tuple(msgspec.convert(one, ClosedPosition) for one in progress.pop("closed", ()))
        wait = round(enforcement_of(step.ruleset).instruction_seconds * SECOND)
        refused = set(progress.get("refused", ()))
        ids = survivors.book.account_ids
        memory.resources, settled = memory.resources.settle(
            step.account(call.account_id),
            _unsettled(facts, i, call),
            closed,
            replace(survivors, refused=np.array([name in refused for name in ids], dtype=np.bool_)),
            (step.snapshot.view(), step.ruleset),
            step.now + 2 * wait,
        )
        payload = settlement_payload(settled, memory.resources)
        number = int(progress.get("settlements", 0)) + 1
        name = f"{call.call_id}-resources-{number}"
        place = call.account_id, call.call_id, name
        sequence = log.add_resources(place, payload, step.now, step.ruleset)
        expires = step.now + wait
        for account_id, draft in settled.drafts:
            # A further settlement of the call may bind the same winner.
            parameters = dict(draft.parameters)
            self._issue(call, account_id, draft.kind, parameters, number, expires, facts)
        progress |= {"settled": True, "settlements": number}
        earlier = float(progress.get("settled_amount", 0.0))
        progress["settled_amount"] = earlier + settled.coverage.shortfall
        log.touch_call(msgspec.structs.replace(call, progress=progress, sequence=sequence))
        return settled


def _unsettled(facts: CallFacts, i: int, call: Call) -> float:
    """What an account owes beyond what was settled before; 0 from a settlement until it holds
    positions again.

    A venue that fills a close twice gives a settled account positions again, and a further debt.
    """
    progress = call.progress or {}
    if progress.get("settled"):
        return 0.0
    return -float(facts.status.equity[i]) - float(progress.get("settled_amount", 0.0))


def _place(one: Instruction) -> tuple[str, int]:
    """Orders instructions by their newest events, the same before and after a restart."""
    return one.account_id, one.sequence


def _has_traded(one: Instruction, step: StateStep) -> bool:
    """Whether the venue reported trades that an instruction asked for; its answer follows."""
    account = step.account(one.account_id)
    return any(
        held_quantity(account, instrument) != held
        for instrument, held in held_when_given(one.parameters).items()
    )


def _fill_is_unseen(call: Call, step: StateStep) -> bool:
    """Whether the venue filled a part of the newest step and did not report the position since."""
    unseen = (call.progress or {}).get("unseen", {})
    account = step.account(call.account_id)
    return any(
        step.now < int(until) and held_quantity(account, instrument) == held
        for instrument, (held, until) in unseen.items()
    )


def _has_borne(bearer: Bearer, step: StateStep) -> bool:
    """Whether the venue has reported an account since it had to bear a part of a debt."""
    if bearer.account_id not in step.index:
        return True
    account = step.account(bearer.account_id)
    if bearer.instrument:
        return held_quantity(account, bearer.instrument) != bearer.quantity
    return account.cash != bearer.cash


def _survivors(facts: CallFacts) -> Survivors:
    """The accounts of a step that can bear a part of the debts of others."""
    step, book = facts.step, facts.step.book()
    requirement = compute_requirement(book, step.snapshot.view(), step.ruleset)
    out = (State.LIQUIDATING, State.BAD_DEBT, State.CLOSED, State.TAKEN_OVER)
    return Survivors(book, requirement, ~np.isin(facts.after.state, out))


def _in_state(facts: CallFacts, calls: dict[str, Call], state: State) -> list[tuple[int, Call]]:
    rows: Ints = np.flatnonzero(facts.after.state == state)
    found = ((i, calls.get(facts.step.names[i])) for i in rows.tolist())
    return [(i, call) for i, call in found if call is not None]
