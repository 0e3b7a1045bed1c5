"""The life cycle of a call: nothing skipped, deadlines kept, no flapping, restarts agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.life_cycle.advance import advance, outstanding
from margin.life_cycle.call_rules import CallRules
from margin.life_cycle.states import (
    NEVER,
    OPEN_CALL,
    MarginStatus,
    Reason,
    State,
    States,
    Transitions,
)
from margin.rules.enforcement import CallTypeRules
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.ruleset import load_ruleset
from market.core.clock import HOUR
from market.core.errors import DataError

RULES = CallRules.plain(LifeCycleRules(call_hours=2.0, grace_hours=1.0))


def figures(
    equity: Sequence[float],
    maintenance: float = 100.0,
    *,
    positions: int = 2,
    add_on: float = 0.0,
    disputed: Sequence[bool] | None = None,
) -> MarginStatus:
    count = len(equity)
    return MarginStatus(
        np.array(equity, dtype=np.float64),
        np.full(count, maintenance),
        np.full(count, add_on),
        np.full(count, positions),
        disputed=None if disputed is None else np.array(disputed),
    )


def walk(
    path: Sequence[float],
    rules: CallRules = RULES,
    start: States | None = None,
    first: int = 0,
) -> tuple[States, list[tuple[int, str, str, str]]]:
    """One account's equity, hour by hour, beside a maintenance margin of 100."""
    states = States.healthy(1) if start is None else start
    history = []
    for hour, equity in enumerate(path, first):
        states, changed = advance(states, figures([equity]), hour * HOUR, rules)
        history += [(hour, *change) for change in plain(changed)]
    return states, history


def plain(changed: Transitions) -> list[tuple[str, str, str]]:
    return [
        (State(before).label, State(after).label, Reason(reason).code)
        for before, after, reason in zip(changed.before, changed.after, changed.reason, strict=True)
    ]


def test_a_call_that_is_met() -> None:
    _, history = walk([200.0, 120.0, 99.0, 104.0, 105.0, 129.0, 130.0])
    assert history == [
        (1, "healthy", "warning", "level_drop"),
        (2, "warning", "called", "margin_call"),
        (4, "called", "met", "call_met"),
        (6, "met", "healthy", "reinstated"),
    ]


def test_a_call_that_is_missed_and_a_liquidation_that_restores() -> None:
    states, history = walk([99.0, 98.0, 97.0, 96.0, 95.0, 106.0])
    assert history == [
        (0, "healthy", "called", "margin_call"),
        (2, "called", "reduce_only", "deadline_missed"),
        (3, "reduce_only", "liquidating", "grace_ended"),
        (5, "liquidating", "met", "reinstated"),
    ]
    assert states.deadline[0] == NEVER
    assert states.since[0] == 5 * HOUR


def test_stop_out_waits_for_no_deadline() -> None:
    for path in ([49.0], [120.0, 49.0], [99.0, 49.0], [99.0, 98.0, 97.0, 49.0]):
        _, history = walk(path)
        assert history[-1][2:] == ("liquidating", "stop_out")


def test_no_grace_and_no_time_still_leave_every_step_on_record() -> None:
    at_once = CallRules.plain(LifeCycleRules(call_hours=0.0, grace_hours=0.0))
    _, history = walk([99.0], at_once)
    assert [step[2] for step in history] == ["called", "reduce_only", "liquidating"]
    # Figures that come late catch up with both deadlines; the grace counts from the deadline.
    states, _ = walk([99.0])
    states, changed = advance(states, figures([98.0]), 3 * HOUR, RULES)
    assert [after for _, after, _ in plain(changed)] == ["reduce_only", "liquidating"]


def test_a_call_met_after_the_deadline_is_met() -> None:
    states, _ = walk([99.0])
    _, changed = advance(states, figures([110.0]), 30 * HOUR, RULES)
    assert plain(changed) == [("called", "met", "call_met")]


def test_nothing_left_to_close() -> None:
    states, _ = walk([40.0])
    for equity, reason, state in (
        (5.0, "positions_closed", "closed"),
        (-5.0, "bankrupt", "bad_debt"),
    ):
        closed, changed = advance(states, figures([equity], 0.0, positions=0), HOUR, RULES)
        assert plain(changed) == [("liquidating", state, reason)]
        _, changed = advance(closed, figures([1e6]), 2 * HOUR, RULES)
        assert plain(changed) == ([("bad_debt", "closed", "debt_covered")] if equity < 0 else [])
    taken = replace(figures([5.0], 0.0, positions=0), taken_over=np.array([True]))
    _, changed = advance(states, taken, HOUR, RULES)
    assert plain(changed) == [("liquidating", "taken_over", "backstop")]


def test_unknown_figures_change_nothing_and_what_is_due_is_done_later() -> None:
    states, _ = walk([99.0])
    waiting, changed = advance(states, figures([np.nan]), 2 * HOUR, RULES)
    assert len(changed) == 0
    _, changed = advance(waiting, figures([99.0]), 2 * HOUR + 1, RULES)
    assert plain(changed)[0] == ("called", "reduce_only", "deadline_missed")


def test_total_requirement_counts_where_the_rules_say_so() -> None:
    total = CallRules.plain(LifeCycleRules(call_level="total"))
    for rules, expected in ((RULES, "healthy"), (total, "called")):
        states, _ = advance(States.healthy(1), figures([160.0], add_on=80.0), 0, rules)
        assert State(states.state[0]).label == expected


def test_a_dispute_stops_the_deadline_and_gives_the_time_back() -> None:
    states, changed = advance(States.healthy(1), figures([99.0], disputed=[True]), 0, RULES)
    assert [reason for _, _, reason in plain(changed)] == ["margin_call", "dispute"]
    states, changed = advance(states, figures([99.0], disputed=[True]), 50 * HOUR, RULES)
    assert len(changed) == 0
    states, changed = advance(states, figures([99.0], disputed=[False]), 60 * HOUR, RULES)
    assert plain(changed) == [("disputed", "called", "dispute_ended")]
    assert states.deadline[0] == 62 * HOUR
    stopped, changed = advance(states, figures([40.0], disputed=[True]), 61 * HOUR, RULES)
    assert plain(changed)[-1] == ("disputed", "liquidating", "stop_out")
    assert stopped.disputed[0] == NEVER


def test_who_may_only_reduce() -> None:
    states, _ = advance(States.healthy(3), figures([200.0, 99.0, 40.0]), 0, RULES)
    assert states.may_only_reduce(RULES.life_cycle).tolist() == [False, False, True]
    early = LifeCycleRules(reduce_only="call")
    assert states.may_only_reduce(early).tolist() == [False, True, True]


def test_time_never_goes_back_and_sizes_agree() -> None:
    states, _ = advance(States.healthy(2), figures([1.0, 2.0]), 5 * HOUR, RULES)
    with pytest.raises(DataError, match="order of time"):
        advance(states, figures([1.0, 2.0]), 4 * HOUR, RULES)
    with pytest.raises(DataError, match="margin status of 1 accounts for 2 states"):
        advance(states, figures([1.0]), 6 * HOUR, RULES)


def test_types_of_a_call_have_deadlines_of_their_own() -> None:
    """A call on the add-on is joined by one on the maintenance margin, and outlasts it."""
    rules = CallRules(
        (
            CallTypeRules(call_hours=10.0, consequence="reduce_only"),
            None,
            CallTypeRules(call_hours=2.0),
            None,
        ),
        LifeCycleRules(),
    )

    states = States.healthy(1)

    def at(hour: int, equity: float) -> list[tuple[str, str, str]]:
        nonlocal states
        states, changed = advance(states, figures([equity], add_on=50.0), hour * HOUR, rules)
        return plain(changed)

    assert at(0, 140.0) == [("healthy", "called", "margin_call")]
    assert states.types.tolist() == [0b001]
    assert states.deadline.tolist() == [10 * HOUR]
    assert at(1, 95.0) == []
    assert states.types.tolist() == [0b101]
    assert states.deadline.tolist() == [3 * HOUR]
    assert at(2, 120.0) == []
    assert states.types.tolist() == [0b001]
    assert states.deadline.tolist() == [10 * HOUR]
    assert at(10, 120.0) == [("called", "reduce_only", "deadline_missed")]
    assert states.deadline.tolist() == [NEVER]
    assert at(500, 120.0) == []
    assert at(501, 155.0) == [("reduce_only", "met", "call_met")]


def test_advice_has_no_deadline_and_changes_no_state() -> None:
    rules = CallRules.of(load_ruleset("binance-usdm"))
    states, changed = advance(States.healthy(1), figures([140.0], add_on=50.0), 0, rules)
    assert plain(changed) == []
    assert (states.types.tolist(), states.deadline.tolist()) == ([1], [NEVER])
    states, changed = advance(states, figures([160.0], add_on=50.0), HOUR, rules)
    assert (plain(changed), states.types.tolist()) == ([], [0])
    states, changed = advance(states, figures([99.0], add_on=50.0), HOUR, rules)
    assert plain(changed)[-1] == ("warning", "liquidating", "stop_out") or plain(changed) == [
        ("healthy", "liquidating", "stop_out")
    ]


def test_the_undisputed_part_of_a_call_stays_due() -> None:
    whole = figures([90.0], disputed=[True])
    part = replace(whole, undisputed=np.array([True]))
    states, _ = advance(States.healthy(1), part, 0, RULES)
    _, changed = advance(states, part, 2 * HOUR, RULES)
    assert plain(changed) == [("disputed", "reduce_only", "deadline_missed")]
    # Nor does the end of the dispute give the time back for which the clock ran.
    _, changed = advance(states, figures([90.0]), 2 * HOUR, RULES)
    assert plain(changed) == [
        ("disputed", "called", "dispute_ended"),
        ("called", "reduce_only", "deadline_missed"),
    ]


def test_the_clock_of_a_call_stands_still_while_all_that_is_missing_is_disputed() -> None:
    whole = figures([90.0], disputed=[True])
    part = replace(whole, undisputed=np.array([True]))
    states, _ = advance(States.healthy(1), part, 0, RULES)
    states, _ = advance(states, whole, HOUR, RULES)  # the rest was paid
    states, changed = advance(states, whole, 5 * HOUR, RULES)
    assert plain(changed) == []
    ended, _ = advance(states, figures([90.0]), 6 * HOUR, RULES)
    assert (ended.deadline.tolist(), ended.disputed.tolist()) == ([7 * HOUR], [NEVER])
    again, changed = advance(states, part, 6 * HOUR, RULES)  # more is missing
    assert (plain(changed), again.deadline.tolist()) == ([], [7 * HOUR])


def test_no_call_opens_and_no_deadline_counts_while_calls_are_suspended() -> None:
    states, _ = advance(States.healthy(2), figures([90.0, 200.0]), 0, RULES)
    waiting = replace(figures([90.0, 90.0]), suspended=np.array([True, True]))
    states, changed = advance(states, waiting, 9 * HOUR, RULES)
    assert plain(changed) == [("healthy", "warning", "level_drop")]
    states, changed = advance(states, figures([90.0, 90.0]), 9 * HOUR, RULES)
    assert [after for _, after, _ in plain(changed)] == ["reduce_only", "liquidating", "called"]


def test_what_is_outstanding_meets_the_call() -> None:
    rules = CallRules.of(load_ruleset("linear-tiers"))
    status = replace(figures([90.0], add_on=20.0), cash=np.array([-3.0]))
    states, _ = advance(States.healthy(1), status, 0, rules)
    assert states.types.tolist() == [0b1101]
    missing = outstanding(status, rules, states.types)
    assert missing.tolist() == [35.0]
    paid = replace(status, equity=status.equity + missing, cash=missing - 3.0)
    _, changed = advance(states, paid, HOUR, rules)
    assert plain(changed)[0] == ("called", "met", "call_met")


SHARES = st.sampled_from([0.0, 0.05, 0.25])
LIFE_CYCLES = st.builds(
    LifeCycleRules,
    call_level=st.sampled_from(["maintenance", "total"]),
    warning_share=SHARES,
    cure_share=SHARES,
    calm_share=SHARES,
    stop_out_share=st.sampled_from([0.0, 0.5, 1.0]),
    call_hours=st.sampled_from([0.0, 1.0, 5.0]),
    grace_hours=st.sampled_from([0.0, 2.0]),
)
TYPES = st.none() | st.builds(
    CallTypeRules,
    call_hours=st.sampled_from([0.0, 1.0, 5.0]),
    grace_hours=st.sampled_from([0.0, 2.0]),
    cure_share=SHARES,
    consequence=st.sampled_from(["advice", "reduce_only", "liquidation"]),
)
RULE_SETS = st.builds(CallRules.plain, LIFE_CYCLES) | st.builds(
    CallRules, st.tuples(TYPES, TYPES, TYPES, TYPES), LIFE_CYCLES
)
MOMENT = st.tuples(
    st.integers(0, 4),
    st.sampled_from([0.0, 100.0]),
    st.sampled_from(
        [-1.0, 0.0, 49.0, 50.0, 99.0, 100.0, 104.0, 105.0, 124.0, 130.0, 155.0, np.nan]
    ),
    st.sampled_from([0.0, 0.0, 20.0]),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
_OPEN = {State.MET, State.REDUCE_ONLY, State.LIQUIDATING, State.DISPUTED}
LEGAL = {
    State.HEALTHY: {State.WARNING, State.CALLED, State.LIQUIDATING},
    State.WARNING: {State.HEALTHY, State.CALLED, State.LIQUIDATING},
    State.CALLED: _OPEN | {State.PARTLY_MET},
    State.PARTLY_MET: _OPEN,
    State.DISPUTED: {State.CALLED} | _OPEN - {State.DISPUTED},
    State.MET: {State.HEALTHY, State.CALLED, State.LIQUIDATING},
    State.REDUCE_ONLY: {State.MET, State.LIQUIDATING},
    State.LIQUIDATING: {State.MET, State.CLOSED, State.TAKEN_OVER, State.BAD_DEBT},
    State.CLOSED: set(),
    State.TAKEN_OVER: set(),
    State.BAD_DEBT: {State.CLOSED},
}


def columns(states: States) -> tuple[list[int], ...]:
    return tuple(column.tolist() for column in states.columns().values())


def moments(
    path: list[list[tuple[int, float, float, float, int, bool]]],
) -> list[tuple[int, MarginStatus]]:
    now, out = 0, []
    for rows in path:
        now += rows[0][0] * HOUR // 2
        _, margin, equity, add_on, positions, disputed = (
            np.array(column) for column in zip(*rows, strict=True)
        )
        more = {"opening": margin + 10.0, "cash": equity - 120.0, "credited": positions == 1}
        status = MarginStatus(equity, margin, add_on, positions, disputed=disputed, **more)
        out.append((now, replace(status, taken_over=add_on > 0.0)))
    return out


@settings(max_examples=150, deadline=None)
@given(
    RULE_SETS,
    st.lists(st.lists(MOMENT, min_size=3, max_size=3), min_size=1, max_size=12),
    st.data(),
)
def test_any_path(
    rules: CallRules,
    path: list[list[tuple[int, float, float, float, int, bool]]],
    data: st.DataObject,
) -> None:
    walked = moments(path)
    states = States.healthy(3)
    history: list[tuple[int, ...]] = []
    past = [states]
    called_until = [NEVER] * 3
    for now, now_figures in walked:
        before = columns(states)
        states, changed = advance(states, now_figures, now, rules)
        assert columns(past[-1]) == before
        past.append(states)
        # The same figures once more change nothing.
        again, nothing = advance(states, now_figures, now, rules)
        assert len(nothing) == 0
        assert columns(again) == columns(states)
        at = {k: State(code).label for k, code in enumerate(before[0])}
        for account, first, after, reason, deadline in zip(
            changed.account.tolist(),
            changed.before,
            changed.after,
            changed.reason,
            changed.deadline.tolist(),
            strict=True,
        ):
            assert State(first).label == at[account]
            assert State(after) in LEGAL[State(first)]
            at[account] = State(after).label
            if after == State.LIQUIDATING and reason != Reason.STOP_OUT:
                assert first == State.REDUCE_ONLY
            if reason == Reason.DEADLINE_MISSED and sum(map(bool, rules.types)) == 1:
                assert now >= called_until[account]
            if State(after) in OPEN_CALL:
                called_until[account] = deadline
            history.append((now, account, int(first), int(after), int(reason), deadline))
        assert [State(code).label for code in states.state] == [at[k] for k in range(3)]
        timed = np.isin(states.state, [*OPEN_CALL, State.REDUCE_ONLY])
        assert (timed | (states.deadline == NEVER)).all()
        assert (np.isin(states.state, OPEN_CALL) <= (states.deadline != NEVER)).all()
        # No deadline stands over its time while the figures are known and nobody disputes.
        late = timed & (states.deadline != NEVER) & (states.deadline <= now)
        late &= states.disputed == NEVER
        assert not (late & np.isfinite(now_figures.equity)).any()
    # Restart in the middle, and account by account.
    cut = data.draw(st.integers(0, len(walked)))
    resumed = past[cut]
    for now, now_figures in walked[cut:]:
        resumed, _ = advance(resumed, now_figures, now, rules)
    assert columns(resumed) == columns(states)
    alone = States.healthy(1)
    for now, f in walked:
        status = f.take(np.array([1]))
        alone, _ = advance(alone, status, now, rules)
    assert alone.state[0] == states.state[1]
    assert alone.deadline[0] == states.deadline[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=40), st.sampled_from(["call", "warning"]))
def test_no_flapping_within_a_band(moves: list[float], band: str) -> None:
    """Equity that moves within the hysteresis of a level changes the state once at most."""
    rules = CallRules.plain(LifeCycleRules(call_hours=1e6))
    low, high = (100.0, 105.0) if band == "call" else (125.0, 130.0)
    path = [low - 0.01] + [low + move * (high - low) * 0.999 for move in moves]
    _, history = walk(path, rules)
    assert len(history) == 1


def test_rows_of_states_are_taken_and_put_back() -> None:
    states, _ = advance(States.healthy(3), figures([99.0, 200.0, 40.0]), HOUR, RULES)
    taken = states.take(np.array([2, 0]))
    assert taken.state.tolist() == [State.LIQUIDATING, State.CALLED]
    assert taken.deadline.tolist() == [NEVER, 3 * HOUR]
    assert taken.as_of == HOUR
    back = States.healthy(3).put(np.array([2, 0]), taken)
    assert back.state.tolist() == [State.CALLED, State.HEALTHY, State.LIQUIDATING]
    assert back.as_of == HOUR
