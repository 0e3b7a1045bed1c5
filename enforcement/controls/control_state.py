"""Modes and overrides in force, as a pure value that commands and time change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from enforcement.controls.call_commands import (
    acknowledge_call,
    answer_instruction,
    open_dispute,
    resolve_dispute,
)
from enforcement.controls.context import CommandRefusedError, ControlContext, ControlOutcome
from enforcement.controls.messages import (
    Acknowledge,
    AcknowledgeCall,
    Approve,
    Command,
    Dispute,
    Reject,
    RequestOverride,
    Resolve,
    SetMode,
    SkipDelivery,
    read_command,
)
from enforcement.controls.override import Override
from enforcement.controls.override_commands import (
    OverrideChange,
    approve_override,
    drop_lapsed,
    is_pending,
    reject_override,
    request_override,
)
from market.core.clock import format_time, parse_time

STATE_NAME = "controls"
"""Name of the row of the table ``enforcement_state`` that holds the newest `ControlState`."""

ALL_MARKETS = ""
"""In the place of a symbol: the modes of all markets."""

MOST_MARKETS = 10_000
"""Most markets with modes of their own."""


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON form of a `ControlState`."""

    seq: int = 0
    modes: dict[str, tuple[str, ...]] = {}
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlState:
    """Modes, overrides and pending approvals at one time.

    Attributes
    ----------
    seq:
        Number of the newest applied command in its chain; one that is not above it changes
        nothing.
    modes:
        The modes of each market that has some, `ALL_MARKETS` for all of them.
    overrides:
        The pending and active overrides by id.
    """

    seq: int = 0
    modes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)

    def apply(
        self, command: Mapping[str, Any], now: int, context: ControlContext
    ) -> tuple[ControlState, ControlOutcome]:
        """Apply a command.

        Parameters
        ----------
        command:
            Payload of its record, with ``command_id`` and ``seq`` of the record, see
            `CommandLog.after`.
        now:
            Time at which it is applied, nanoseconds.
        context:
            What it is checked against.

        Returns
        -------
        The state after it, and what it did. A refused command changes nothing but `seq`, and its
        outcome says why; one that was applied before has no record.
        """
        if command["seq"] <= self.seq:
            return self, ControlOutcome(None)
        state = replace(self, seq=command["seq"])
        record = {
            "command_id": command["command_id"],
            "command": command.get("command"),
            "requester": command.get("requester"),
            "applied_at": format_time(now),
        }
        try:
            read = read_command(command)
            state, outcome = state._applied(read, str(command["command_id"]), now, context)
        except CommandRefusedError as error:
            record |= {"result": "refused", "refused": str(error), "kind": error.kind}
            return state, ControlOutcome(record, str(error), error.kind)
        return state, replace(outcome, record=record | (outcome.record or {}))

    def expired(self, now: int) -> tuple[ControlState, list[dict[str, Any]]]:
        """The state without overrides that time ended, and a record for each of them.

        To be called at the begin of a step, before commands are applied. The records have no
        ``command_id``; their ``effects`` are those of `ControlOutcome`.
        """
        change = drop_lapsed(self.overrides, now)
        if change is None:
            return self, []
        records = [
            {
                "command": None,
                "applied_at": format_time(now),
                "result": "expired",
                "overrides": [msgspec.to_builtins(override)],
            }
            for override in change.changed
        ]
        return replace(self, overrides=change.overrides), records

    def mode(self, symbol: str | None = None) -> frozenset[str]:
        """The modes in force for all markets, or for one of them: its own and those of all."""
        common = self.modes.get(ALL_MARKETS, frozenset())
        return common if symbol is None else common | self.modes.get(symbol, frozenset())

    def add_ons(self, now: int) -> dict[str, float]:
        """The overriding add-on of each account that has one, settlement currency.

        They are not bounded here: the caller takes no less than the floor of the rules.
        """
        return {
            o.target: o.add_on
            for o in self.overrides.values()
            if o.add_on is not None and o.state == "active" and not o.lapsed(now)
        }

    def deadline(self, call_id: str) -> int | None:
        """The overriding deadline of a call, nanoseconds; None without one."""
        for o in self.overrides.values():
            if o.deadline is not None and o.target == call_id and o.state == "active":
                return parse_time(o.deadline)
        return None

    def to_content(self) -> dict[str, Any]:
        """As JSON; `of_content` reads it back."""
        modes = {symbol: tuple(sorted(modes)) for symbol, modes in sorted(self.modes.items())}
        content = _Content(self.seq, modes, tuple(self.overrides.values()))
        return dict(msgspec.to_builtins(content))

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> ControlState:
        """The state of a JSON value; raises `msgspec.ValidationError` where it is none."""
        read = msgspec.convert(dict(content), _Content)
        return cls(
            read.seq,
            {symbol: frozenset(modes) for symbol, modes in read.modes.items()},
            {override.override_id: override for override in read.overrides},
        )

    def _applied(
        self, command: Command, command_id: str, now: int, context: ControlContext
    ) -> tuple[ControlState, ControlOutcome]:
        match command:
            case Dispute():
                return self, _done(open_dispute(command, now, context))
            case Resolve():
                return self, _done(resolve_dispute(command, context))
            case AcknowledgeCall():
                return self, _done(acknowledge_call(command, now, context))
            case Acknowledge():
                return self, _done(answer_instruction(command, now, context))
            case RequestOverride():
                change = request_override(self.overrides, command, command_id, now, context)
            case Approve():
                change = approve_override(self.overrides, command, now, context)
            case Reject():
                change = reject_override(self.overrides, command, now)
            case SetMode():
                return self._with_modes(command)
            case SkipDelivery():
                skipped = {
                    "effect": "delivery_skipped",
                    "event_id": command.event_id,
                    "sink": command.sink,
                    "reason": command.reason,
                }
                return self, _done(skipped)
        return replace(self, overrides=change.overrides), _changed(change)

    def _with_modes(self, command: SetMode) -> tuple[ControlState, ControlOutcome]:
        wanted = frozenset(command.modes)
        if "normal" in wanted and len(wanted) > 1:
            raise CommandRefusedError(
                "invalid", "mode normal stands alone: it ends all others; leave it out or the rest"
            )
        wanted -= {"normal"}
        symbol = command.symbol or ALL_MARKETS
        modes = {name: kept for name, kept in self.modes.items() if name != symbol}
        if wanted:
            modes[symbol] = wanted
        if len(modes) > MOST_MARKETS:
            raise CommandRefusedError(
                "conflict", f"{MOST_MARKETS} markets have modes of their own; set some to normal"
            )
        record = {
            "result": "applied",
            "symbol": command.symbol,
            "modes": sorted(wanted) or ["normal"],
            "reason": command.reason,
        }
        effect = {"effect": "modes_changed", "symbol": command.symbol}
        return replace(self, modes=modes), ControlOutcome(record, effects=(effect,))


def _done(effect: dict[str, Any]) -> ControlOutcome:
    return ControlOutcome({"result": "applied", **effect}, effects=(effect,))


def _changed(change: OverrideChange) -> ControlOutcome:
    result = "pending" if is_pending(change.changed[0]) else "applied"
    written = [msgspec.to_builtins(override) for override in change.changed]
    return ControlOutcome({"result": result, "overrides": written}, effects=change.effects)
