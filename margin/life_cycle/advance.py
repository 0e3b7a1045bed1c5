"""One step of the life cycle: margin status in, new states and transitions out.

With MM the maintenance margin, a type of call has a level L of equity: MM, MM plus the add-on, or
the opening requirement; a settlement call has the level 0 of cash. With the levels of the types
that a rule set makes, and L the highest of them, equity is

    stopped   below  stop_out_share * MM
    breached  below  the level of a type
    restored  from   the level + cure_share * MM, of every type of the open call
    low       below  L + warning_share * MM
    calm      from   L + (warning_share + calm_share) * MM

Between restored and breached, and between calm and low, nothing changes: equity that moves to and
fro within such a band changes a state once.

    healthy, warning, met                       -> called       breached
    healthy                                     -> warning      low
    warning, met                                -> healthy      calm
    called                                      -> partly_met   by a deposit or a trade
    called, partly_met                          -> disputed     while the owner disputes the call
    disputed                                    -> called       once the dispute has ended
    called, partly_met, disputed, reduce_only   -> met          restored
    called, partly_met, disputed                -> reduce_only  at a deadline
    reduce_only                                 -> liquidating  at the end of the grace
    every state with positions                  -> liquidating  stopped
    liquidating                                 -> met          restored
    liquidating                                 -> closed, taken_over, bad_debt  nothing to close
    bad_debt                                    -> closed       equity is not below 0 any more

A type of call that is breached while a call is open joins it with a deadline of its own, and leaves
it once it is restored. One whose consequence is ``advice`` has no deadline and changes no state.

The deadline of a type is its ``call_hours`` after it was called. Where calls wait for their
acknowledgement it is ``waiting_hours`` later, and moves to ``call_hours`` after the acknowledgement
if that is earlier; a type that joins an acknowledged call does not wait. While all that is missing
is disputed the clock stands still, and the deadlines are later by that time; while a part of it is
not disputed, the clock runs and the deadline counts for that part.

One margin status may cause several transitions; each is recorded, and none is skipped: a
liquidation without stop-out comes after a call and a missed deadline. An unknown margin status
changes nothing, and what fell due meanwhile is done once it is known. A call that is met counts as
met, also when the first status that shows it comes after the deadline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.life_cycle.call_rules import (
    INITIAL,
    MAINTENANCE,
    PROACTIVE,
    SETTLEMENT,
    CallRules,
)
from margin.life_cycle.states import (
    NEVER,
    OPEN_CALL,
    MarginStatus,
    Reason,
    State,
    States,
    Transitions,
)
from margin.rules.enforcement import CALL_TYPES, CallTypeRules
from market.core.clock import HOUR, format_time
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

ADVICE, LIQUIDATION = "advice", "liquidation"

_LAST = int(np.iinfo(np.int64).max)
"""The last representable time: a deadline beyond it falls on it."""

_MOST = len(State)
"""No account changes more often at one time: no state is entered twice with the same status."""


def advance(
    states: States, status: MarginStatus, now: int, rules: CallRules
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
        Of calls, warning and liquidation.

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
    levels = Levels.of(status, rules)
    columns = _Columns(**{name: column.copy() for name, column in states.columns().items()})
    dispute = _flags(status.disputed, len(states))
    parts = [_end_disputes(columns, dispute, now)]
    _follow_disputes(columns, _flags(status.undisputed, len(states)), now)
    _start_clocks(columns, status, now, rules)
    for _ in range(_MOST):
        _follow_types(columns, levels, status, now, rules)
        parts.append(_begin_disputes(columns, dispute, now))
        _follow_disputes(columns, _flags(status.undisputed, len(states)), now)
        changed = _pass(columns, levels, status, now, rules)
        parts.append(changed)
        if not len(changed):
            break
    else:
        raise DataError("a state was entered twice at one time; the rules contradict themselves")
    return columns.states(now), _by_account(parts, now)


@dataclass(slots=True)
class _Columns:
    """The arrays of `States` while they change."""

    state: Codes
    since: Ints
    deadline: Ints
    disputed: Ints
    types: Codes
    deadlines: Ints

    def states(self, as_of: int) -> States:
        """The states that they are now."""
        return States(
            self.state, self.since, self.deadline, self.disputed, self.types, self.deadlines, as_of
        )


@dataclass(frozen=True, slots=True)
class Levels:
    """Which levels each account's equity is beyond; False where it is unknown.

    Attributes
    ----------
    breached, restored:
        Of each type of call, shape (N, 4); False and True of types that are not made.
    stopped, low, calm, flat, owing, whole:
        Shape (N,): `flat` without positions, `owing` with equity below 0, `whole` where a
        liquidation is over.
    known:
        Whether the account has figures, shape (N,).
    """

    known: Bools
    breached: Bools
    restored: Bools
    stopped: Bools
    low: Bools
    calm: Bools
    flat: Bools
    owing: Bools
    whole: Bools

    @classmethod
    def of(cls, status: MarginStatus, rules: CallRules) -> Levels:
        """The levels of a margin status."""
        equity, margin, life_cycle = status.equity, status.maintenance, rules.life_cycle
        levels = call_levels(status, rules)
        known = np.isfinite(equity) & np.isfinite(margin) & np.isfinite(status.add_on)
        breached, restored = (np.zeros((len(status), len(CALL_TYPES)), np.bool_) for _ in range(2))
        level, over = margin, equity >= margin * (1.0 + life_cycle.cure_share)
        ends = [i for i, kind in enumerate(rules.types) if kind and kind.consequence == LIQUIDATION]
        with np.errstate(invalid="ignore"):
            for i, kind in enumerate(rules.types):
                if kind is None:
                    restored[:, i] = True
                    continue
                amount = _amount(i, status)
                breached[:, i] = known & (amount < levels[:, i])
                restored[:, i] = known & (amount >= levels[:, i] + _cure(i, kind, margin))
                if kind.consequence != ADVICE and i != SETTLEMENT:
                    level = np.fmax(level, levels[:, i])
            low_at = level + life_cycle.warning_share * margin
            return cls(
                known,
                breached,
                restored,
                known & (equity < life_cycle.stop_out_share * margin),
                known & (equity < low_at),
                known & (equity >= low_at + life_cycle.calm_share * margin),
                known & (status.positions == 0),
                known & (equity < 0.0),
                known & (restored[:, ends].all(axis=1) if ends else over),
            )


def call_levels(status: MarginStatus, rules: CallRules) -> Floats:
    """The level of each type of call, shape (N, 4), settlement currency.

    Of equity, but of cash for a settlement call; NaN for types without figures. Types that a rule
    set does not make have levels all the same.
    """
    margin, total = status.maintenance, status.maintenance + status.add_on
    levels = np.zeros((len(status), len(CALL_TYPES)))
    levels[:, PROACTIVE] = total
    levels[:, INITIAL] = np.nan if status.opening is None else status.opening
    levels[:, MAINTENANCE] = total if rules.total_level else margin
    return levels


def _amount(column: int, status: MarginStatus) -> Floats:
    """What a type of call compares with its level: equity or cash."""
    if column != SETTLEMENT:
        return status.equity
    return np.full(len(status), np.nan) if status.cash is None else status.cash


def outstanding(status: MarginStatus, rules: CallRules, types: Codes) -> Floats:
    """What is missing until every type of a call is met, shape (N,).

    The largest over the types of ``level + cure_share * MM - equity``, and of ``-cash``; below 0
    where the account is beyond all of them, and 0 without a type or figures.

    Parameters
    ----------
    types:
        Bits of the types of each account's call, shape (N,).
    """
    levels = call_levels(status, rules)
    missing = np.full(len(status), -np.inf)
    for i, kind in enumerate(rules.types):
        if kind is not None:
            short = levels[:, i] + _cure(i, kind, status.maintenance) - _amount(i, status)
            missing = np.where(has_type(types, i), np.fmax(missing, short), missing)
    return np.where(np.isfinite(missing), missing, 0.0)


def has_type(types: Codes, column: int) -> Bools:
    """Whether a type is among those of each account, shape (N,)."""
    among: Bools = (types >> column) & 1 == 1
    return among


def _cure(column: int, kind: CallTypeRules, margin: Floats) -> Floats:
    return np.zeros(len(margin)) if column == SETTLEMENT else kind.cure_share * margin


def _start_clocks(columns: _Columns, status: MarginStatus, now: int, rules: CallRules) -> None:
    """Let the hours of calls that are acknowledged now run, from no later than they do already.

    Where the clock stands still as all of a call is disputed they run from when it stopped: the
    length is added once it runs again.
    """
    count = len(columns.state)
    starts = _flags(status.clock_starts, count)
    waits = (columns.state == State.DISPUTED) & ~_flags(status.undisputed, count)
    begin = np.where(waits, columns.disputed, now)
    for i, kind in enumerate(rules.types):
        if kind is not None:
            due = columns.deadlines[:, i]
            rows = starts & (due != NEVER)
            ends = _later(begin, _nanoseconds(kind.call_hours))
            columns.deadlines[rows, i] = np.minimum(due, ends)[rows]


def _follow_types(
    columns: _Columns, levels: Levels, status: MarginStatus, now: int, rules: CallRules
) -> None:
    """Let types of calls join and leave the open calls, and advice come and go."""
    called = np.isin(columns.state, (*OPEN_CALL, State.REDUCE_ONLY)) & levels.known
    acknowledged = _flags(status.acknowledged, len(columns.state))
    for i, kind in enumerate(rules.types):
        if kind is None:
            continue
        binds = kind.consequence != ADVICE
        joins = ~has_type(columns.types, i) & levels.breached[:, i]
        joins = joins & called if binds else joins
        columns.types[joins] |= np.int8(1 << i)
        if binds:
            columns.deadlines[joins, i] = _until(now, kind, rules.waiting_hours)
            columns.deadlines[joins & acknowledged, i] = _until(now, kind)
    # A type leaves only while another one keeps the call open, so all have joined before.
    for i, kind in enumerate(rules.types):
        inside = has_type(columns.types, i)
        if kind is None:
            ends = inside
        elif kind.consequence == ADVICE:
            ends = inside & levels.restored[:, i]
        else:
            others = columns.types & ~np.int8(1 << i) & _binding_bits(rules)
            ends = called & inside & levels.restored[:, i] & (others != 0)
        columns.types[ends] &= ~np.int8(1 << i)
        columns.deadlines[ends, i] = NEVER
    _set_deadlines(columns, rules)


def _binding_bits(rules: CallRules) -> np.int8:
    made = np.int8(sum(1 << i for i, kind in enumerate(rules.types) if kind))
    return made & ~advice_bits(rules)


def advice_bits(rules: CallRules) -> np.int8:
    """The types of calls that are advice, bit by bit."""
    kinds = enumerate(rules.types)
    return np.int8(sum(1 << i for i, kind in kinds if kind and kind.consequence == ADVICE))


def _set_deadlines(columns: _Columns, rules: CallRules) -> None:
    """The time of the next event that time alone causes, of accounts with a call."""
    open_call = np.isin(columns.state, OPEN_CALL)
    reducing = columns.state == State.REDUCE_ONLY
    earliest = np.where(columns.deadlines == NEVER, _LAST, columns.deadlines).min(axis=1)
    ends = np.full(len(columns.state), _LAST, dtype=np.int64)
    for i, kind in enumerate(rules.types):
        if kind is not None and kind.consequence == LIQUIDATION:
            due = columns.deadlines[:, i]
            after = _later(due, _nanoseconds(kind.grace_hours))
            ends = np.where(due == NEVER, ends, np.minimum(ends, after))
    time = np.where(open_call, earliest, np.where(reducing, ends, _LAST))
    columns.deadline[:] = np.where((open_call | reducing) & (time != _LAST), time, NEVER)


def _pass(
    columns: _Columns, levels: Levels, status: MarginStatus, now: int, rules: CallRules
) -> Transitions:
    """Every account's next change, applied to `columns`."""
    state, deadline, count = columns.state, columns.deadline, len(status)
    active = ~_flags(status.suspended, count)
    waits = (state == State.DISPUTED) & ~_flags(status.undisputed, count)
    due = levels.known & (deadline != NEVER) & (now >= deadline) & ~waits & active
    binding = _binding_bits(rules)
    columns_of = [i for i in range(len(CALL_TYPES)) if binding >> i & 1]
    breached = levels.breached[:, columns_of].any(axis=1)
    unmet = np.zeros(count, dtype=np.bool_)
    for i in columns_of:
        unmet |= has_type(columns.types, i) & ~levels.restored[:, i]
    restored = levels.known & ~unmet & ~breached
    is_healthy, called, reducing, liquidating, owed = (
        state == code
        for code in (
            State.HEALTHY,
            State.CALLED,
            State.REDUCE_ONLY,
            State.LIQUIDATING,
            State.BAD_DEBT,
        )
    )
    uncalled = np.isin(state, (State.HEALTHY, State.WARNING, State.MET))
    open_call = np.isin(state, OPEN_CALL)
    gone = liquidating & levels.flat
    rows: list[tuple[Bools, State, Reason]] = [
        (gone & levels.owing, State.BAD_DEBT, Reason.BANKRUPT),
        (gone & _flags(status.taken_over, count), State.TAKEN_OVER, Reason.BACKSTOP),
        (gone, State.CLOSED, Reason.POSITIONS_CLOSED),
        (owed & levels.known & ~levels.owing, State.CLOSED, Reason.DEBT_COVERED),
        (liquidating & levels.whole, State.MET, Reason.REINSTATED),
        ((uncalled | open_call | reducing) & levels.stopped, State.LIQUIDATING, Reason.STOP_OUT),
        (uncalled & breached & active, State.CALLED, Reason.MARGIN_CALL),
        (is_healthy & levels.low, State.WARNING, Reason.LEVEL_DROP),
        (uncalled & ~is_healthy & levels.calm, State.HEALTHY, Reason.REINSTATED),
        ((open_call | reducing) & restored, State.MET, Reason.CALL_MET),
        (open_call & due, State.REDUCE_ONLY, Reason.DEADLINE_MISSED),
        (reducing & due, State.LIQUIDATING, Reason.GRACE_ENDED),
        (called & _flags(status.credited, count), State.PARTLY_MET, Reason.PARTLY_MET),
    ]
    conditions = [row[0] for row in rows]
    pick = np.select(conditions, [np.int8(k) for k in range(len(rows))], default=np.int8(-1))
    account = np.flatnonzero(pick >= 0)
    chosen = pick[account]
    before = state[account]
    after = np.array([row[1] for row in rows], dtype=np.int8)[chosen]
    reason = np.array([row[2] for row in rows], dtype=np.int8)[chosen]
    state[account] = after
    columns.since[account] = now
    _begin_calls(columns, levels, account[after == State.CALLED], now, rules)
    ended = account[~np.isin(after, (*OPEN_CALL, State.REDUCE_ONLY))]
    columns.types[ended] &= ~binding
    columns.deadlines[ended] = NEVER
    columns.disputed[columns.state != State.DISPUTED] = NEVER
    _set_deadlines(columns, rules)
    return Transitions(account, before, after, reason, deadline[account].copy(), now)


def _begin_calls(
    columns: _Columns, levels: Levels, account: Ints, now: int, rules: CallRules
) -> None:
    for i, kind in enumerate(rules.types):
        if kind is not None and kind.consequence != ADVICE:
            joins = account[levels.breached[account, i]]
            columns.types[joins] |= np.int8(1 << i)
            columns.deadlines[joins, i] = _until(now, kind, rules.waiting_hours)


def _until(now: int, kind: CallTypeRules, waiting_hours: float = 0.0) -> int:
    hours = _nanoseconds(kind.call_hours) + _nanoseconds(waiting_hours)
    return min(now + hours, _LAST - 1)


def _flags(given: Bools | None, count: int) -> Bools:
    return np.zeros(count, dtype=np.bool_) if given is None else given


def _nanoseconds(hours: float) -> int:
    return round(min(hours * HOUR, float(_LAST)))


def _later(times: Ints, nanoseconds: int) -> Ints:
    """Times so many nanoseconds later, `_LAST` at most."""
    least = min(nanoseconds, _LAST)
    return np.where(times > _LAST - least, _LAST, times + np.int64(min(least, _LAST)))


def _begin_disputes(columns: _Columns, dispute: Bools, now: int) -> Transitions:
    """Let calls be disputed; their clock may stop, see `_follow_disputes`."""
    called = np.isin(columns.state, (State.CALLED, State.PARTLY_MET))
    begun = np.flatnonzero(called & dispute)
    before = columns.state[begun]
    columns.state[begun], columns.since[begun] = State.DISPUTED, now
    return _stated(columns, begun, before, Reason.DISPUTE, now)


def _follow_disputes(columns: _Columns, undisputed: Bools, now: int) -> None:
    """Stop the clock of calls that are disputed as a whole, and restart it where part is due."""
    in_dispute, stopped = columns.state == State.DISPUTED, columns.disputed != NEVER
    columns.disputed[in_dispute & ~undisputed & ~stopped] = now
    _restart_clocks(columns, np.flatnonzero(in_dispute & undisputed & stopped), now)


def _restart_clocks(columns: _Columns, rows: Ints, now: int) -> None:
    """Let deadlines of calls be later by the time for which their clock stood still."""
    since = columns.disputed[rows]
    length = np.where(since == NEVER, 0, now - since)
    deadlines = columns.deadlines[rows]
    columns.deadlines[rows] = np.where(deadlines == NEVER, NEVER, deadlines + length[:, None])
    columns.deadline[rows] += np.where(columns.deadline[rows] == NEVER, 0, length)
    columns.disputed[rows] = NEVER


def _end_disputes(columns: _Columns, dispute: Bools, now: int) -> Transitions:
    """End disputes, and restart the clock where it stood still."""
    ended = np.flatnonzero((columns.state == State.DISPUTED) & ~dispute)
    before = columns.state[ended]
    _restart_clocks(columns, ended, now)
    columns.state[ended], columns.since[ended] = State.CALLED, now
    return _stated(columns, ended, before, Reason.DISPUTE_ENDED, now)


def _stated(
    columns: _Columns, account: Ints, before: Codes, reason: Reason, now: int
) -> Transitions:
    why = np.full(len(account), reason, dtype=np.int8)
    after, deadline = columns.state[account].copy(), columns.deadline[account].copy()
    return Transitions(account, before, after, why, deadline, now)


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
