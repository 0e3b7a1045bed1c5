"""What the venue's answers to instructions change: calls, default resources, shares of losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from enforcement.calls.call import Call
from enforcement.calls.cures import LEAST
from enforcement.calls.event_log import EventLog
from enforcement.calls.instruction import PREPARING, Instruction, InstructionState
from enforcement.liquidation.plan import held_when_given
from margin.life_cycle.call_rules import enforcement_of
from margin.rules.ruleset import RuleSet
from market.core.clock import SECOND, format_time

MOST_DOUBLINGS = 8
"""So often the pause after a rejection doubles: 300 s become 21 hours."""

_FILLED = ("filled", "partly_filled")


def binds_winner(one: Instruction) -> bool:
    """Whether an instruction closes a winner against a bankrupt account."""
    return one.kind == "deleverage" and "bankrupt_account" in one.parameters


def answer(
    log: EventLog, one: Instruction, given: Mapping[str, Any], now: int, rules: RuleSet
) -> None:
    """Record the venue's answer to an open instruction, and what follows from it.

    Parameters
    ----------
    one:
        The instruction.
    given:
        ``status``: acknowledged, filled, partly_filled or rejected; the signed ``quantity`` that
        was traded, where it has one.
    """
    state = msgspec.convert(given["status"], InstructionState)
    after = msgspec.structs.replace(one, state=state, answer=dict(given))
    log.add_instruction(after, state, now, rules)
    part = _traded_part(after) if state in _FILLED else 0.0
    if part:
        log.memory.resources = log.memory.resources.after_fill(after.parameters, part)
    _follow_liquidation(log, after, part, now, rules)
    if not after.is_open:
        take_back(log, after, 1.0 - part, now, rules)


def take_back(log: EventLog, one: Instruction, share: float, now: int, rules: RuleSet) -> None:
    """Record that a winner did not bear a share of what an instruction asked of it.

    That part of the debt is open again: the next whole step settles it, without this winner. A
    record of the kind ``default_resources`` with negative amounts takes it out of what was settled.
    """
    loss = share * float(one.parameters.get("loss", 0.0))
    if not binds_winner(one) or loss < LEAST:
        return
    memory = log.memory
    memory.resources = memory.resources.taken_back(one.account_id, loss)
    debtor = str(one.parameters["bankrupt_account"])
    amounts = dict.fromkeys(("fund_paid", "shared", "uncovered"), 0.0)
    log.add_resources(
        (debtor, one.call_id, f"{one.instruction_id}-resources"),
        {
            **amounts,
            "shortfall": -loss,
            "deleveraged": -loss,
            "shares": {},
            "fund_balance": memory.resources.fund_balance,
            "instruction_id": one.instruction_id,
        },
        now,
        rules,
    )
    call = memory.calls.get(debtor)
    if call is not None and call.call_id == one.call_id:
        progress = dict(call.progress or {})
        settled = max(0.0, float(progress.get("settled_amount", 0.0)) - loss)
        refused = sorted({*progress.get("refused", ()), one.account_id})
        progress |= {"settled": False, "settled_amount": settled, "refused": refused}
        sequence = memory.sequence(debtor)
        log.touch_call(msgspec.structs.replace(call, progress=progress, sequence=sequence))


def fill(log: EventLog, account_id: str, now: int, rules: RuleSet) -> None:
    """Record that the open instructions of an account were carried out as planned."""
    for one in log.memory.open_instructions(account_id):
        answer(log, one, {"status": "filled", "time": format_time(now)}, now, rules)


def _traded_part(one: Instruction) -> float:
    """Part of an instruction that was carried out; of one without a quantity all of it."""
    wanted, traded = one.parameters.get("quantity"), (one.answer or {}).get("quantity")
    return 1.0 if wanted is None or traded is None else abs(float(traded) / float(wanted))


def _follow_liquidation(
    log: EventLog, one: Instruction, part: float, now: int, rules: RuleSet
) -> None:
    """Keep what an answer says of the liquidation of its call, and when its next step may follow.

    After a fill it waits until the venue has reported the positions; after the k-th rejection in
    turn for ``instruction_seconds * 2 ** k``, `MOST_DOUBLINGS` times at most.
    """
    call = _liquidated(log, one)
    if call is None:
        return
    wait = enforcement_of(rules).instruction_seconds * SECOND
    progress = dict(call.progress or {})
    if part:
        until = now + round(wait)
        unseen = {name: [held, until] for name, held in held_when_given(one.parameters).items()}
        progress |= {"unseen": {**progress.get("unseen", {}), **unseen}, "rejections": 0}
        proceeds = part * float(one.parameters.get("proceeds", 0.0))
        progress["reserved"] = float(progress.get("reserved", 0.0)) + proceeds
        progress["taken_over"] = one.kind == "transfer_to_backstop"
    elif one.state == "rejected":
        rejections = int(progress.get("rejections", 0)) + 1
        pause = round(wait * 2.0 ** min(rejections, MOST_DOUBLINGS))
        progress |= {"rejected_until": now + pause, "rejections": rejections}
    log.touch_call(msgspec.structs.replace(call, progress=progress))


def _liquidated(log: EventLog, one: Instruction) -> Call | None:
    """The call whose liquidation an instruction is a step of."""
    call = log.memory.calls.get(one.account_id)
    if call is None or call.progress is None or one.kind in PREPARING:
        return None
    return call if call.call_id == one.call_id else None
