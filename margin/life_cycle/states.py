"""States of N accounts, their margin status, and the transitions between states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from margin.rules.life_cycle import LifeCycleRules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]


class State(IntEnum):
    """Life-cycle state of an account.

    ``CURED`` met a call and is not calm yet; ``REDUCE_ONLY`` missed its deadline and may only
    close positions; ``CLOSED`` has no positions left and is done.
    """

    HEALTHY = 0
    WARNING = 1
    CALLED = 2
    CURED = 3
    REDUCE_ONLY = 4
    LIQUIDATING = 5
    CLOSED = 6

    @property
    def label(self) -> str:
        """As it is recorded: lower case."""
        return self.name.lower()


class Reason(IntEnum):
    """Why a transition happened.

    ``LEVEL_DROP``: equity fell below the level of the warning. ``MARGIN_CALL``: below the call
    level. ``DEADLINE_MISSED`` and ``GRACE_ENDED``: a call was not met in time. ``STOP_OUT``: equity
    fell below the level at which no deadline counts. ``CALL_MET``: a deposit, a trade or the
    market brought the account back. ``REINSTATED``: it is calm again, or a liquidation restored
    its margin. ``POSITIONS_CLOSED`` and ``BANKRUPT``: nothing is left to close, with equity or
    without. ``DISPUTE`` and ``DISPUTE_ENDED``: the deadline of a call stops and goes on.
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

    @property
    def code(self) -> str:
        """As it is recorded: lower case."""
        return self.name.lower()


NEVER = -1
"""In place of a time where there is none."""


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
        When a call must be met, or when the grace after it ends; `NEVER` without one, shape (N,).
    disputed:
        Since when the call is disputed, `NEVER` where it is not, shape (N,).
    as_of:
        Time of the newest margin status; `NEVER` before any.
    """

    state: Codes
    since: Ints
    deadline: Ints
    disputed: Ints
    as_of: int

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def healthy(cls, count: int) -> States:
        """Accounts without any margin status yet."""
        since, deadline, disputed = np.full((3, count), NEVER, dtype=np.int64)
        return cls(np.full(count, State.HEALTHY, dtype=np.int8), since, deadline, disputed, NEVER)

    def take(self, rows: Ints) -> States:
        """The states of some of the accounts."""
        return States(
            self.state[rows],
            self.since[rows],
            self.deadline[rows],
            self.disputed[rows],
            self.as_of,
        )

    def put(self, rows: Ints, states: States) -> States:
        """These states with others in the place of some rows; nothing is changed."""
        state, since = self.state.copy(), self.since.copy()
        deadline, disputed = self.deadline.copy(), self.disputed.copy()
        state[rows], since[rows] = states.state, states.since
        deadline[rows], disputed[rows] = states.deadline, states.disputed
        return States(state, since, deadline, disputed, max(self.as_of, states.as_of))

    def may_only_reduce(self, rules: LifeCycleRules) -> Bools:
        """Accounts that may close positions and open none, shape (N,)."""
        state = self.state
        reduces: Bools = (state == State.REDUCE_ONLY) | (state == State.LIQUIDATING)
        return reduces | (state == State.CALLED) if rules.reduce_only == "call" else reduces


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
    disputed:
        Whether the owner disputes the call, shape (N,); None: no dispute.
    """

    equity: Floats
    maintenance: Floats
    add_on: Floats
    positions: Ints
    disputed: Bools | None = None

    def __len__(self) -> int:
        return len(self.equity)


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
