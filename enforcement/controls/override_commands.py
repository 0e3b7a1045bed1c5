"""Requests, approvals and rejections of overrides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from enforcement.controls.context import CallView, CommandRefusedError, ControlContext
from enforcement.controls.messages import Approve, Reject, RequestOverride
from enforcement.controls.override import Override
from margin.rules.approval import OverrideType
from market.core.clock import DAY, HOUR, format_time, parse_time
from market.core.errors import DataError

MOST_OVERRIDES = 10_000
"""Most overrides that are pending or active at one time."""

_MOVABLE = ("called", "partly_met", "disputed")
"""States of a call in which its deadline can move."""

_REMEDY = "GET /v1/overrides shows those that are pending or active"


@dataclass(frozen=True, slots=True)
class OverrideChange:
    """Overrides after a command.

    Attributes
    ----------
    overrides:
        The pending and active ones by id.
    changed:
        Those that the command changed, as they are now.
    effects:
        As in `ControlOutcome`.
    """

    overrides: dict[str, Override]
    changed: tuple[Override, ...]
    effects: tuple[dict[str, Any], ...] = ()


def request_override(
    overrides: Mapping[str, Override],
    command: RequestOverride,
    command_id: str,
    now: int,
    context: ControlContext,
) -> OverrideChange:
    """Add an override: active at once where the approval matrix says so, else pending.

    Raises
    ------
    CommandRefusedError
        The target or a value is impossible, or the target has a pending override.
    """
    if len(overrides) >= MOST_OVERRIDES:
        raise CommandRefusedError(
            "conflict", f"there are {len(overrides)} overrides already; reject some first"
        )
    kind, target = _target(command)
    value = _deadline(command, now) if kind == "deadline" else None
    expires = _expires(command, value, now, context.approval.longest_hours)
    pending = next(
        (o for o in overrides.values() if o.kind == kind and o.target == target and is_pending(o)),
        None,
    )
    if pending is not None:
        raise CommandRefusedError(
            "conflict",
            f"override {pending.override_id} of the same {kind} is pending; approve or reject it "
            "first",
        )
    amount = _amount(kind, target, command.add_on, context)
    until = min(expires, now + round(context.approval.pending_hours * HOUR))
    new = Override(
        override_id=command_id,
        kind=kind,
        target=target,
        reason=command.reason,
        amount=amount,
        requester=command.requester,
        requested_at=format_time(now),
        expires=format_time(expires),
        pending_until=format_time(until),
        add_on=command.add_on,
        deadline=None if value is None else format_time(value),
    )
    if context.approval.is_automatic(kind, amount):
        return _activate(overrides, new)
    return OverrideChange({**overrides, command_id: new}, (new,))


def approve_override(
    overrides: Mapping[str, Override], command: Approve, now: int, context: ControlContext
) -> OverrideChange:
    """Let a pending override count, in the place of the active one of its target.

    Raises
    ------
    CommandRefusedError
        It is not pending, the approver requested it, or it is no longer possible.
    """
    override = _known(overrides, command.override_id, now)
    if override.state != "pending":
        raise CommandRefusedError(
            "conflict",
            f"override {override.override_id} is {override.state}; only pending ones "
            f"are approved, {_REMEDY}",
        )
    if override.requester == command.requester:
        raise CommandRefusedError(
            "conflict",
            f"key {command.requester} requested override {override.override_id} and cannot approve "
            "it; another key with the scope approve can",
        )
    if override.deadline is not None and parse_time(override.deadline) <= now:
        raise CommandRefusedError(
            "conflict", f"deadline {override.deadline} has passed; request another override"
        )
    _amount(override.kind, override.target, override.add_on, context)  # still possible
    approved = msgspec.structs.replace(
        override, approver=command.requester, approved_at=format_time(now)
    )
    return _activate(overrides, approved)


def reject_override(overrides: Mapping[str, Override], command: Reject, now: int) -> OverrideChange:
    """Reject a pending override, or end an active one.

    Raises
    ------
    CommandRefusedError
        There is no such override that is pending or active.
    """
    override = _known(overrides, command.override_id, now)
    ended = override.with_state("rejected" if is_pending(override) else "ended")
    rest = {name: o for name, o in overrides.items() if name != override.override_id}
    effects = () if is_pending(override) else (override.effect(),)
    return OverrideChange(rest, (ended,), effects)


def drop_lapsed(overrides: Mapping[str, Override], now: int) -> OverrideChange | None:
    """The overrides without those that time ended; None where there is none."""
    over = [o for o in overrides.values() if o.lapsed(now)]
    if not over:
        return None
    rest = {name: o for name, o in overrides.items() if not o.lapsed(now)}
    effects = tuple(o.effect() for o in over if not is_pending(o))
    return OverrideChange(rest, tuple(o.with_state("expired") for o in over), effects)


def takes_deadline(call: CallView) -> bool:
    """Whether a call stands so that its deadline can be moved."""
    return call.is_open and call.kind == "call" and call.state in _MOVABLE


def is_pending(override: Override) -> bool:
    """Whether an override waits for approval."""
    return override.state == "pending"


def _activate(overrides: Mapping[str, Override], override: Override) -> OverrideChange:
    active = override.with_state("active")
    replaced = tuple(
        other.with_state("replaced")
        for other in overrides.values()
        if other.state == "active" and (other.kind, other.target) == (active.kind, active.target)
    )
    gone = {other.override_id for other in replaced}
    rest = {name: other for name, other in overrides.items() if name not in gone}
    change = OverrideChange({**rest, active.override_id: active}, (active, *replaced))
    return replace(change, effects=(active.effect(),))


def _known(overrides: Mapping[str, Override], override_id: str, now: int) -> Override:
    override = overrides.get(override_id)
    if override is None:
        raise CommandRefusedError(
            "not_found", f"no override {override_id!r} is pending or active; {_REMEDY}"
        )
    if override.lapsed(now):
        raise CommandRefusedError(
            "conflict", f"override {override_id} has expired; request another one"
        )
    return override


def _target(command: RequestOverride) -> tuple[OverrideType, str]:
    add_on = (command.account_id, command.add_on)
    deadline = (command.call_id, command.deadline)
    if None not in add_on and deadline == (None, None):
        return "add_on", str(command.account_id)
    if None not in deadline and add_on == (None, None):
        return "deadline", str(command.call_id)
    raise CommandRefusedError(
        "invalid",
        "an override sets one thing; give account_id and add_on, or call_id and deadline",
    )


def _deadline(command: RequestOverride, now: int) -> int:
    value = _time("deadline", str(command.deadline))
    if value <= now:
        raise CommandRefusedError(
            "invalid", f"deadline is {command.deadline}; give a time after {format_time(now)}"
        )
    return value


def _expires(command: RequestOverride, deadline: int | None, now: int, longest: float) -> int:
    """When the override ends; for a deadline without an expiry a day after it."""
    last = now + round(longest * HOUR)
    if command.expires is not None:
        expires = _time("expires", command.expires)
    elif deadline is not None:
        expires = deadline + DAY
    else:
        raise CommandRefusedError(
            "invalid", f"expires is missing; give a time until {format_time(last)}"
        )
    least = now if deadline is None else deadline
    if not least < expires <= last:
        raise CommandRefusedError(
            "invalid",
            f"the override expires at {format_time(expires)}; give an expiry after "
            f"{format_time(least)} and until {format_time(last)}",
        )
    return expires


def _time(name: str, text: str) -> int:
    try:
        return parse_time(text)
    except DataError as error:
        raise CommandRefusedError("invalid", f"{name}: {error}") from None


def _amount(
    kind: OverrideType, target: str, add_on: float | None, context: ControlContext
) -> float:
    """What the approval matrix compares; refuses a target or value that is impossible now."""
    if kind == "deadline":
        call = context.call(target)
        if call is None:
            raise CommandRefusedError("not_found", f"there is no call {target!r}")
        if not takes_deadline(call):
            raise CommandRefusedError(
                "conflict",
                f"call {target} ({call.kind}) is {call.state}; a deadline moves only while a call "
                f"is {', '.join(_MOVABLE)}",
            )
        return call.outstanding
    account = context.account(target)
    if account is None:
        raise CommandRefusedError("not_found", f"the live book has no account {target!r}")
    value = 0.0 if add_on is None else add_on
    if not math.isfinite(value):
        raise CommandRefusedError("invalid", f"add_on is {value}; give a finite amount")
    floor, present = _known_amount(account.floor), _known_amount(account.add_on)
    if floor is not None and value < floor:
        raise CommandRefusedError(
            "conflict",
            f"add_on is {value}, below the floor of the rules; give {floor} at least",
        )
    return value if present is None else abs(value - present)


def _known_amount(amount: float | None) -> float | None:
    """An amount; None where it is not known, or NaN as of an account that cannot be valued."""
    return amount if amount is not None and math.isfinite(amount) else None
