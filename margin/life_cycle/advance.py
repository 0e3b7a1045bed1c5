"""One step of the life cycle: margin status in, new states and transitions out.

With MM the maintenance margin and L the call level (MM, or MM plus the add-on), equity is

    stopped   below  stop_out_share * MM
    breached  below  L
    restored  from   L + cure_share * MM
    low       below  L + warning_share * MM
    calm      from   L + (warning_share + calm_share) * MM

Between restored and breached, and between calm and low, nothing changes: equity that moves to and
fro within such a band changes a state once.

    healthy, warning, cured, called, reduce_only  -> liquidating  stopped
    healthy, warning, cured                       -> called       breached
    healthy                                       -> warning      low
    warning, cured                                -> healthy      calm
    called, reduce_only                           -> cured        restored
    called                                        -> reduce_only  at the deadline
    reduce_only                                   -> liquidating  at the end of the grace
    liquidating                                   -> closed       nothing left to close
    liquidating                                   -> cured        restored

One margin status may cause several transitions; each is recorded, and none is skipped: a
liquidation without stop-out comes after a call and a missed deadline. An unknown margin status
changes nothing, and what fell due meanwhile is done once it is known. A call that is met counts as
met, also when the first status that shows it comes after the deadline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.life_cycle.states import NEVER, MarginStatus, Reason, State, States, Transitions
from margin.rules.life_cycle import LifeCycleRules
from market.core.clock import HOUR, format_time
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

_LAST = int(np.iinfo(np.int64).max)
"""The last representable time: a deadline beyond it falls on it."""

_MOST = len(State)
"""No account changes more often at one time: no state is entered twice with the same status."""


def advance(
    states: States, status: MarginStatus, now: int, rules: LifeCycleRules
) -> tuple[States, Transitions]:
    """Move N accounts to `now`.

    Pure and total: any state with any margin status has exactly one result. The same status at the
    same time once more changes nothing.

    Parameters
    ----------
    states:
        Before the step; not changed.
    status:
        At `now`, of the same accounts.
    now:
        Nanoseconds; not before the last status.
    rules:
        ``[life_cycle]`` of the rule set.

    Raises
    ------
    DataError
        Time went back, or the status is of another number of accounts.

    References
    ----------
    Saxo OpenAPI, "Margin Call Events" (MarginCall, StopOut, LevelDrop, Reinstate).
    """
    if now < states.as_of:
        raise DataError(
            f"the margin status is of {format_time(now)}, and these accounts were advanced to "
            f"{format_time(states.as_of)} already; give it in the order of time"
        )
    if len(status) != len(states):
        raise DataError(
            f"margin status of {len(status)} accounts for {len(states)} states; give one each"
        )
    levels = _Levels.of(status, rules)
    dispute = status.disputed
    if dispute is None:
        dispute = np.zeros(len(states), dtype=np.bool_)
    columns = _Columns(
        states.state.copy(), states.since.copy(), states.deadline.copy(), states.disputed.copy()
    )
    parts = [_end_disputes(columns, dispute, now), _begin_disputes(columns, dispute, now)]
    for _ in range(_MOST):
        changed = _pass(columns, levels, now, rules)
        if not len(changed):
            break
        parts.append(changed)
    else:
        raise DataError("a state was entered twice at one time; the rules contradict themselves")
    # A dispute is about a call, and ends with it; one about a call of just now begins.
    columns.disputed[columns.state != State.CALLED] = NEVER
    parts.append(_begin_disputes(columns, dispute, now))
    after = States(columns.state, columns.since, columns.deadline, columns.disputed, now)
    return after, _by_account(parts, now)


@dataclass(slots=True)
class _Columns:
    """The arrays of `States` while they change."""

    state: Codes
    since: Ints
    deadline: Ints
    disputed: Ints


@dataclass(frozen=True, slots=True)
class _Levels:
    """Which levels each account's equity is beyond, shape (N,) each; False where it is unknown."""

    known: Bools
    stopped: Bools
    breached: Bools
    restored: Bools
    low: Bools
    calm: Bools
    flat: Bools
    owing: Bools

    @classmethod
    def of(cls, status: MarginStatus, rules: LifeCycleRules) -> _Levels:
        equity, margin = status.equity, status.maintenance
        level = margin + status.add_on if rules.call_level == "total" else margin
        known = np.isfinite(equity) & np.isfinite(level)
        low_at = level + rules.warning_share * margin
        with np.errstate(invalid="ignore"):
            tests = (
                equity < rules.stop_out_share * margin,
                equity < level,
                equity >= level + rules.cure_share * margin,
                equity < low_at,
                equity >= low_at + rules.calm_share * margin,
                status.positions == 0,
                equity < 0.0,
            )
        return cls(known, *(known & test for test in tests))


def _pass(columns: _Columns, levels: _Levels, now: int, rules: LifeCycleRules) -> Transitions:
    """Every account's next change, applied to `columns`."""
    state, deadline = columns.state, columns.deadline
    due = levels.known & (deadline != NEVER) & (now >= deadline) & (columns.disputed == NEVER)
    healthy, warning, called, cured, reducing, liquidating = (
        state == code
        for code in (
            State.HEALTHY,
            State.WARNING,
            State.CALLED,
            State.CURED,
            State.REDUCE_ONLY,
            State.LIQUIDATING,
        )
    )
    uncalled = healthy | warning | cured
    rows: list[tuple[Bools, State, Reason]] = [
        (liquidating & levels.flat & levels.owing, State.CLOSED, Reason.BANKRUPT),
        (liquidating & levels.flat, State.CLOSED, Reason.POSITIONS_CLOSED),
        (liquidating & levels.restored, State.CURED, Reason.REINSTATED),
        ((uncalled | called | reducing) & levels.stopped, State.LIQUIDATING, Reason.STOP_OUT),
        (uncalled & levels.breached, State.CALLED, Reason.MARGIN_CALL),
        (healthy & levels.low, State.WARNING, Reason.LEVEL_DROP),
        ((warning | cured) & levels.calm, State.HEALTHY, Reason.REINSTATED),
        ((called | reducing) & levels.restored, State.CURED, Reason.CALL_MET),
        (called & due, State.REDUCE_ONLY, Reason.DEADLINE_MISSED),
        (reducing & due, State.LIQUIDATING, Reason.GRACE_ENDED),
    ]
    conditions = [row[0] for row in rows]
    pick = np.select(conditions, [np.int8(k) for k in range(len(rows))], default=np.int8(-1))
    account = np.flatnonzero(pick >= 0)
    chosen = pick[account]
    before = state[account]
    after = np.array([row[1] for row in rows], dtype=np.int8)[chosen]
    reason = np.array([row[2] for row in rows], dtype=np.int8)[chosen]
    previous = deadline[account]
    state[account] = after
    columns.since[account] = now
    deadline[account] = np.select(
        [after == State.CALLED, after == State.REDUCE_ONLY],
        [
            np.int64(min(now + _nanoseconds(rules.call_hours), _LAST)),
            # The grace counts from the deadline, not from the time of the status.
            _later(previous, _nanoseconds(rules.grace_hours)),
        ],
        default=np.int64(NEVER),
    )
    return Transitions(account, before, after, reason, deadline[account].copy(), now)


def _nanoseconds(hours: float) -> int:
    return round(min(hours * HOUR, float(_LAST)))


def _later(times: Ints, nanoseconds: int) -> Ints:
    """Times so many nanoseconds later, `_LAST` at most."""
    least = min(nanoseconds, _LAST)
    return np.where(times > _LAST - least, _LAST, times + np.int64(min(least, _LAST)))


def _begin_disputes(columns: _Columns, dispute: Bools, now: int) -> Transitions:
    """Stop the clock of calls that are disputed."""
    begun = np.flatnonzero((columns.state == State.CALLED) & dispute & (columns.disputed == NEVER))
    columns.disputed[begun] = now
    return _stay_called(columns, begun, Reason.DISPUTE, now)


def _end_disputes(columns: _Columns, dispute: Bools, now: int) -> Transitions:
    """Restart the clock where a dispute has ended, later by its length."""
    ended = np.flatnonzero((columns.state == State.CALLED) & ~dispute & (columns.disputed != NEVER))
    columns.deadline[ended] += now - columns.disputed[ended]
    columns.disputed[ended] = NEVER
    return _stay_called(columns, ended, Reason.DISPUTE_ENDED, now)


def _stay_called(columns: _Columns, account: Ints, reason: Reason, now: int) -> Transitions:
    called = np.full(len(account), State.CALLED, dtype=np.int8)
    why = np.full(len(account), reason, dtype=np.int8)
    return Transitions(account, called, called, why, columns.deadline[account], now)


def _by_account(parts: list[Transitions], now: int) -> Transitions:
    """All transitions by account; of one account in the order in which they happened."""
    order = np.argsort(np.concatenate([part.account for part in parts]), kind="stable")
    return Transitions(
        np.concatenate([part.account for part in parts])[order],
        np.concatenate([part.before for part in parts])[order],
        np.concatenate([part.after for part in parts])[order],
        np.concatenate([part.reason for part in parts])[order],
        np.concatenate([part.deadline for part in parts])[order],
        now,
    )
