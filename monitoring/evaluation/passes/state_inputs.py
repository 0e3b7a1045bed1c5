"""What moves the states of accounts besides their figures, and how both move them.

Calls that are disputed, calls that a deposit met in part, overrides and modes come from
enforcement; a rule pass records them, so that its states can be computed again from the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.life_cycle.advance import advance
from margin.life_cycle.call_rules import CallRules, enforcement_of
from margin.life_cycle.states import (
    ENDED,
    NEVER,
    MarginStatus,
    States,
    Transitions,
)
from margin.rules.ruleset import RuleSet
from market.core.arrays import Bools, Floats, Ints
from monitoring.evaluation.passes.rules_pass import RuleColumns
from monitoring.evaluation.record.column_codec import decode_columns, encode_columns

FLAGS = (
    *("credited", "disputed", "undisputed", "taken_over", "suspended"),
    *("acknowledged", "clock_starts", "floor_only"),
)
"""Bits of a record, in their order."""


@dataclass(frozen=True, slots=True)
class StateInputs:
    """Enforcement's part in the states of N accounts.

    Attributes
    ----------
    flags:
        By the names of `FLAGS`, shape (N,); a name that is missing is of no account. All but
        the last are those of `margin.life_cycle.states.MarginStatus`; ``floor_only``: the model's
        level does not count.
    add_on:
        Levels that an approved override sets, by account; never below the rule floor.
    deadlines:
        Deadlines that an approved override sets, by account, nanoseconds.
    """

    flags: Mapping[str, Bools] = field(default_factory=dict)
    add_on: Mapping[str, float] = field(default_factory=dict)
    deadlines: Mapping[str, int] = field(default_factory=dict)

    def rows(self, names: Sequence[str]) -> Bools:
        """Accounts that a record has to hold for its flags or overrides, shape (N,).

        A flag of every account is recorded once. An account that is ``acknowledged`` is held where
        it changes: the flag alone has no effect.
        """
        rows = np.zeros(len(names), dtype=np.bool_)
        for name, flag in self.flags.items():
            if name != "acknowledged" and not flag.all():
                rows |= flag
        given = self.add_on.keys() | self.deadlines.keys()
        if not given:
            return rows
        return rows | np.array([name in given for name in names], dtype=np.bool_)

    def content(self, chosen: Ints) -> dict[str, Any]:
        """As a record of some of the accounts holds it."""
        every = [name for name, flag in self.flags.items() if len(flag) and flag.all()]
        some = {
            name: np.packbits(flag[chosen])
            for name, flag in self.flags.items()
            if name not in every and flag.any()
        }
        return {
            "every": every,
            "flags": encode_columns(some),
            "add_on": dict(self.add_on),
            "deadlines": dict(self.deadlines),
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any], count: int) -> StateInputs:
        """The inputs of a record of `count` accounts; raises `AlteredError`."""
        packed = decode_columns(content["flags"])
        flags = {
            name: np.unpackbits(column, count=count).astype(np.bool_)
            for name, column in packed.items()
        }
        flags |= {name: np.ones(count, dtype=np.bool_) for name in content["every"]}
        return cls(flags, content["add_on"], content["deadlines"])

    @classmethod
    def of_others(cls, content: Mapping[str, Any], count: int) -> StateInputs:
        """The inputs of `count` accounts that a record does not hold."""
        return cls({name: np.ones(count, dtype=np.bool_) for name in content["every"]})

    def take(self, rows: Ints) -> StateInputs:
        """The inputs of some of the accounts."""
        return replace(self, flags={name: flag[rows] for name, flag in self.flags.items()})


def margin_status(
    columns: RuleColumns, names: Sequence[str], inputs: StateInputs | None
) -> MarginStatus:
    """The margin status of accounts whose figures a rule pass computed."""
    status = MarginStatus(
        columns.equity, columns.maintenance_margin, columns.add_on, columns.positions
    )
    if inputs is None:
        return status
    add_on = columns.add_on
    if "floor_only" in inputs.flags:
        add_on = np.where(inputs.flags["floor_only"], columns.floor, add_on)
    given = [inputs.add_on.get(name, np.nan) for name in names] if inputs.add_on else None
    if given is not None:
        levels: Floats = np.array(given)
        add_on = np.where(np.isnan(levels), add_on, np.fmax(levels, columns.floor))
    with np.errstate(invalid="ignore"):
        opening = np.maximum(columns.initial_margin, columns.maintenance_margin + add_on)
    flags: dict[str, Any] = dict(inputs.flags)
    flags.pop("floor_only", None)
    return replace(status, add_on=add_on, opening=opening, cash=columns.cash, **flags)


def class_rows(names: Sequence[str], ruleset: RuleSet) -> dict[str, Ints]:
    """The accounts of each client class of a rule set; most have ``""`` only."""
    rules = enforcement_of(ruleset)
    if not rules.client_classes:
        return {"": np.arange(len(names))}
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(rules.client_class(name), []).append(i)
    return {name: np.array(members, dtype=np.int64) for name, members in rows.items()}


def advance_states(
    states: States,
    columns: RuleColumns,
    names: Sequence[str],
    now: int,
    ruleset: RuleSet,
    inputs: StateInputs | None = None,
) -> tuple[States, Transitions]:
    """The life-cycle states of accounts by their columns, see `margin.life_cycle.advance`.

    An account that was closed and holds positions again begins anew, healthy. Accounts with a
    problem stay as they are.

    Parameters
    ----------
    states, columns, names:
        Of the same N accounts.
    inputs:
        Of enforcement; None: states move by ``[life_cycle]`` alone.

    Returns
    -------
    The states at `now`, and the transitions with their accounts' rows.

    Raises
    ------
    DataError
        `now` is before the newest status.
    """
    reopened = np.flatnonzero(np.isin(states.state, ENDED) & (columns.positions > 0))
    if len(reopened):
        states = states.put(reopened, States.healthy(len(reopened)))
    status = margin_status(columns, names, inputs)
    if inputs is None:
        rules = CallRules.plain(ruleset.life_cycle_or_default)
        return advance(states, status, now, rules)
    states = _with_deadlines(states, names, inputs.deadlines)
    parts, after = [], states
    for client_class, rows in class_rows(names, ruleset).items():
        rules = CallRules.of(ruleset, client_class)
        moved, changes = advance(states.take(rows), status.take(rows), now, rules)
        after = after.put(rows, moved)
        parts.append(replace(changes, account=rows[changes.account]))
    return after, _joined(parts, now)


def _with_deadlines(states: States, names: Sequence[str], given: Mapping[str, int]) -> States:
    if not given:
        return states
    rows = [i for i, name in enumerate(names) if name in given]
    deadlines, deadline = states.deadlines.copy(), states.deadline.copy()
    for i in rows:
        due = deadlines[i] != NEVER
        deadlines[i, due] = given[names[i]]
        if due.any():
            deadline[i] = given[names[i]]
    return replace(states, deadlines=deadlines, deadline=deadline)


def _joined(parts: Sequence[Transitions], now: int) -> Transitions:
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.account for part in parts]), kind="stable")

    def joined(name: str) -> npt.NDArray[Any]:
        column: npt.NDArray[Any] = np.concatenate([getattr(part, name) for part in parts])
        return column[order]

    return Transitions(
        joined("account"),
        joined("before"),
        joined("after"),
        joined("reason"),
        joined("deadline"),
        now,
    )
