"""States of N accounts, their margin status, and the transitions between states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.rules.enforcement import CALL_TYPES
from margin.rules.life_cycle import LifeCycleRules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]


class State(IntEnum):
    """Life-cycle state of an account.

    ``CALLED`` has an open call, ``PARTLY_MET`` has met part of it by a deposit or a trade, and
    ``DISPUTED`` contests it. ``MET`` met a call and is not calm yet; ``REDUCE_ONLY`` missed its
    deadline and may only close positions. ``CLOSED`` has no positions left and is done,
    ``TAKEN_OVER`` had them taken over by the backstop, and ``BAD_DEBT`` owes what is left.
    """

    HEALTHY = 0
    WARNING = 1
    CALLED = 2
    MET = 3
    REDUCE_ONLY = 4
    LIQUIDATING = 5
    CLOSED = 6
    PARTLY_MET = 7
    DISPUTED = 8
    TAKEN_OVER = 9
    BAD_DEBT = 10

    @property
    def label(self) -> str:
        """As it is recorded: lower case."""
        return self.name.lower()


OPEN_CALL = (State.CALLED, State.PARTLY_MET, State.DISPUTED)
"""States with a call whose deadline has not been missed."""

ENDED = (State.CLOSED, State.TAKEN_OVER, State.BAD_DEBT)
"""States of accounts without positions after a liquidation."""


class Reason(IntEnum):
    """Why a transition happened.

    ``LEVEL_DROP``: equity fell below the level of the warning. ``MARGIN_CALL``: below the level of
    a call. ``PARTLY_MET``: a deposit or a trade met part of it. ``DEADLINE_MISSED`` and
    ``GRACE_ENDED``: a call was not met in time. ``STOP_OUT``: equity fell below the level at which
    no deadline counts. ``CALL_MET``: deposits, trades or the market brought the account back.
    ``REINSTATED``: it is calm again, or a liquidation restored its margin. ``POSITIONS_CLOSED``,
    ``BACKSTOP`` and ``BANKRUPT``: nothing is left to close, with equity, by a takeover, or without
    equity. ``DEBT_COVERED``: a bankrupt account owes nothing any more. ``DISPUTE`` and
    ``DISPUTE_ENDED``: the deadline of a call stops and goes on.
    """

    LEVEL_DROP = 0
    MARGIN_CALL = 1
    DEADLINE_MISSED = 2
    GRACE_ENDED = 3
    STOP_OUT = 4
    CALL_MET = 5
    REINSTATED = 6
    POSITIONS_CLOSED = 7
    BANKRUPT = 8
    DISPUTE = 9
    DISPUTE_ENDED = 10
    PARTLY_MET = 11
    BACKSTOP = 12
    DEBT_COVERED = 13

    @property
    def code(self) -> str:
        """As it is recorded: lower case."""
        return self.name.lower()


NEVER = -1
"""In place of a time where there is none."""

_MAINTENANCE = CALL_TYPES.index("maintenance_margin")


@dataclass(frozen=True, slots=True)
class States:
    """Life-cycle states of N accounts.

    Attributes
    ----------
    state:
        Codes of `State`, int8, shape (N,).
    since:
        When the state began, nanoseconds, shape (N,).
    deadline:
        When something happens by time alone: the earliest deadline of a call, or the end of the
        grace after it; `NEVER` without one, shape (N,).
    disputed:
        Since when the clock of a disputed call stands still, `NEVER` where it runs, shape (N,).
    types:
        Which types of calls are unmet: bit i for column i of
        `margin.rules.enforcement.CALL_TYPES`, int8, shape (N,).
    deadlines:
        Of each type of an open call, `NEVER` without one, shape (N, 4).
    as_of:
        Time of the newest margin status; `NEVER` before any.
    """

    state: Codes
    since: Ints
    deadline: Ints
    disputed: Ints
    types: Codes
    deadlines: Ints
    as_of: int

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def healthy(cls, count: int) -> States:
        """Accounts without any margin status yet."""
        return cls.of_columns({"state": np.full(count, State.HEALTHY, dtype=np.int8)}, NEVER)

    @classmethod
    def of_columns(cls, columns: Mapping[str, npt.NDArray[Any]], as_of: int) -> States:
        """States by `columns`; a column that is not given, besides `state`, holds its default.

        Where only `deadline` is given, as in records from before there were types of calls, it is
        that of a maintenance margin call.
        """
        state = columns["state"]
        count = len(state)
        never = np.full(count, NEVER, dtype=np.int64)
        deadline = columns.get("deadline", never)
        types, deadlines = columns.get("types"), columns.get("deadlines")
        if types is None or deadlines is None:
            called = np.isin(state, (*OPEN_CALL, State.REDUCE_ONLY))
            types = np.where(called, 1 << _MAINTENANCE, 0).astype(np.int8)
            deadlines = np.full((count, len(CALL_TYPES)), NEVER, dtype=np.int64)
            deadlines[:, _MAINTENANCE] = np.where(called, deadline, NEVER)
        since, disputed = columns.get("since", never), columns.get("disputed", never)
        return cls(state, since, deadline, disputed, types, deadlines, as_of)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def take(self, rows: Ints) -> States:
        """The states of some of the accounts."""
        taken: dict[str, Any] = {name: column[rows] for name, column in self.columns().items()}
        return States(**taken, as_of=self.as_of)

    def put(self, rows: Ints, states: States) -> States:
        """These states with others in the place of some rows; nothing is changed."""
        changed: dict[str, Any] = {}
        given = states.columns()
        for name, column in self.columns().items():
            changed[name] = column.copy()
            changed[name][rows] = given[name]
        return States(**changed, as_of=max(self.as_of, states.as_of))

    def grown(self, count: int) -> States:
        """These states with further accounts, healthy, behind them, `count` together."""
        if count <= len(self):
            return self
        rest = States.healthy(count - len(self)).columns()
        joined: dict[str, Any] = {
            name: np.concatenate([column, rest[name]]) for name, column in self.columns().items()
        }
        return States(**joined, as_of=self.as_of)

    def differs(self, other: States) -> Bools:
        """Whether anything about an account is another than in `other`, shape (N,)."""
        same = np.ones(len(self), dtype=np.bool_)
        for one, two in zip(self.columns().values(), other.columns().values(), strict=True):
            same &= (one == two).all(axis=tuple(range(1, one.ndim)))
        return ~same

    def may_only_reduce(self, rules: LifeCycleRules) -> Bools:
        """Accounts that may close positions and open none, shape (N,)."""
        state = self.state
        reduces: Bools = np.isin(state, (State.REDUCE_ONLY, State.LIQUIDATING))
        return reduces | np.isin(state, OPEN_CALL) if rules.reduce_only == "call" else reduces


_COLUMNS = ("state", "since", "deadline", "disputed", "types", "deadlines")


@dataclass(frozen=True, slots=True)
class MarginStatus:
    """Equity, margin and positions of N accounts at one time, settlement currency.

    Attributes
    ----------
    equity, maintenance:
        Shape (N,); NaN where an account cannot be valued.
    add_on:
        Level on top of the maintenance margin, shape (N,); counts where the rules ask for it.
    positions:
        Number of positions, int64, shape (N,): 0 once everything is closed.
    opening:
        Opening requirement, shape (N,); None: no call is made on it.
    cash:
        Shape (N,); None: no call is made on it.
    credited:
        Whether a deposit or a trade has met part of the open call, shape (N,); None: none has.
    disputed:
        Whether the owner disputes the call, shape (N,); None: no dispute.
    undisputed:
        Whether part of a disputed call is not disputed, and stays due, shape (N,); None: nothing.
    taken_over:
        Whether the backstop took the positions over, shape (N,); None: it took none.
    suspended:
        Whether no call opens and no deadline takes effect, shape (N,); None: nothing is suspended.
    acknowledged:
        Whether the open call is acknowledged, so that types that join it do not wait, shape (N,);
        None: none is.
    clock_starts:
        Whether the hours of the open call run from now on, as it has just been acknowledged,
        shape (N,); None: none do.
    """

    equity: Floats
    maintenance: Floats
    add_on: Floats
    positions: Ints
    opening: Floats | None = None
    cash: Floats | None = None
    credited: Bools | None = None
    disputed: Bools | None = None
    undisputed: Bools | None = None
    taken_over: Bools | None = None
    suspended: Bools | None = None
    acknowledged: Bools | None = None
    clock_starts: Bools | None = None

    def __len__(self) -> int:
        return len(self.equity)

    def take(self, rows: Ints) -> MarginStatus:
        """The status of some of the accounts."""
        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {
            name: None if column is None else column[rows] for name, column in given.items()
        }
        return MarginStatus(**taken)


@dataclass(frozen=True, slots=True)
class Transitions:
    """M changes of state at one time, by account, and of one account in their order.

    Attributes
    ----------
    account:
        Index of the account, shape (M,).
    before, after:
        Codes of `State`, shape (M,); equal where only a deadline moved.
    reason:
        Codes of `Reason`, shape (M,).
    deadline:
        In force afterwards, `NEVER` without one, shape (M,).
    as_of:
        When.
    """

    account: Ints
    before: Codes
    after: Codes
    reason: Codes
    deadline: Ints
    as_of: int

    def __len__(self) -> int:
        return len(self.account)
