"""The life cycle of a call: nothing skipped, deadlines kept, no flapping, restarts agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.life_cycle.advance import advance
from margin.life_cycle.states import NEVER, MarginStatus, Reason, State, States, Transitions
from margin.rules.life_cycle import LifeCycleRules
from market.core.clock import HOUR
from market.core.errors import DataError

RULES = LifeCycleRules(call_hours=2.0, grace_hours=1.0)


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
        None if disputed is None else np.array(disputed),
    )


def walk(
    path: Sequence[float],
    rules: LifeCycleRules = RULES,
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
        (4, "called", "cured", "call_met"),
        (6, "cured", "healthy", "reinstated"),
    ]


def test_a_call_that_is_missed_and_a_liquidation_that_restores() -> None:
    states, history = walk([99.0, 98.0, 97.0, 96.0, 95.0, 106.0])
    assert history == [
        (0, "healthy", "called", "margin_call"),
        (2, "called", "reduce_only", "deadline_missed"),
        (3, "reduce_only", "liquidating", "grace_ended"),
        (5, "liquidating", "cured", "reinstated"),
    ]
    assert states.deadline[0] == NEVER
    assert states.since[0] == 5 * HOUR


def test_stop_out_waits_for_no_deadline() -> None:
    for path in ([49.0], [120.0, 49.0], [99.0, 49.0], [99.0, 98.0, 97.0, 49.0]):
        _, history = walk(path)
        assert history[-1][2:] == ("liquidating", "stop_out")


def test_no_grace_and_no_time_still_leave_every_step_on_record() -> None:
    at_once = LifeCycleRules(call_hours=0.0, grace_hours=0.0)
    _, history = walk([99.0], at_once)
    assert [step[2] for step in history] == ["called", "reduce_only", "liquidating"]
    # Figures that come late catch up with both deadlines; the grace counts from the deadline.
    states, _ = walk([99.0])
    states, changed = advance(states, figures([98.0]), 3 * HOUR, RULES)
    assert [after for _, after, _ in plain(changed)] == ["reduce_only", "liquidating"]


def test_a_call_met_after_the_deadline_is_met() -> None:
    states, _ = walk([99.0])
    _, changed = advance(states, figures([110.0]), 30 * HOUR, RULES)
    assert plain(changed) == [("called", "cured", "call_met")]


def test_nothing_left_to_close() -> None:
    states, _ = walk([40.0])
    for equity, reason in ((5.0, "positions_closed"), (-5.0, "bankrupt")):
        closed, changed = advance(states, figures([equity], 0.0, positions=0), HOUR, RULES)
        assert plain(changed) == [("liquidating", "closed", reason)]
        same, changed = advance(closed, figures([1e6]), 2 * HOUR, RULES)
        assert len(changed) == 0
        assert same.state[0] == State.CLOSED


def test_unknown_figures_change_nothing_and_what_is_due_is_done_later() -> None:
    states, _ = walk([99.0])
    waiting, changed = advance(states, figures([np.nan]), 2 * HOUR, RULES)
    assert len(changed) == 0
    _, changed = advance(waiting, figures([99.0]), 2 * HOUR + 1, RULES)
    assert plain(changed)[0] == ("called", "reduce_only", "deadline_missed")


def test_total_requirement_counts_where_the_rules_say_so() -> None:
    total = LifeCycleRules(call_level="total")
    for rules, expected in ((RULES, "healthy"), (total, "called")):
        states, _ = advance(States.healthy(1), figures([160.0], add_on=80.0), 0, rules)
        assert State(states.state[0]).label == expected


def test_a_dispute_stops_the_deadline_and_gives_the_time_back() -> None:
    states, changed = advance(States.healthy(1), figures([99.0], disputed=[True]), 0, RULES)
    assert [reason for _, _, reason in plain(changed)] == ["margin_call", "dispute"]
    states, changed = advance(states, figures([99.0], disputed=[True]), 50 * HOUR, RULES)
    assert len(changed) == 0
    states, changed = advance(states, figures([99.0], disputed=[False]), 60 * HOUR, RULES)
    assert plain(changed) == [("called", "called", "dispute_ended")]
    assert states.deadline[0] == 62 * HOUR
    stopped, changed = advance(states, figures([40.0], disputed=[True]), 61 * HOUR, RULES)
    assert plain(changed)[-1] == ("called", "liquidating", "stop_out")
    assert stopped.disputed[0] == NEVER


def test_who_may_only_reduce() -> None:
    states, _ = advance(States.healthy(3), figures([200.0, 99.0, 40.0]), 0, RULES)
    assert states.may_only_reduce(RULES).tolist() == [False, False, True]
    early = LifeCycleRules(reduce_only="call")
    assert states.may_only_reduce(early).tolist() == [False, True, True]


def test_time_never_goes_back_and_sizes_agree() -> None:
    states, _ = advance(States.healthy(2), figures([1.0, 2.0]), 5 * HOUR, RULES)
    with pytest.raises(DataError, match="order of time"):
        advance(states, figures([1.0, 2.0]), 4 * HOUR, RULES)
    with pytest.raises(DataError, match="margin status of 1 accounts for 2 states"):
        advance(states, figures([1.0]), 6 * HOUR, RULES)


SHARES = st.sampled_from([0.0, 0.05, 0.25])
RULE_SETS = st.builds(
    LifeCycleRules,
    call_level=st.sampled_from(["maintenance", "total"]),
    warning_share=SHARES,
    cure_share=SHARES,
    calm_share=SHARES,
    stop_out_share=st.sampled_from([0.0, 0.5, 1.0]),
    call_hours=st.sampled_from([0.0, 1.0, 5.0]),
    grace_hours=st.sampled_from([0.0, 2.0]),
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
LEGAL = {
    State.HEALTHY: {State.WARNING, State.CALLED, State.LIQUIDATING},
    State.WARNING: {State.HEALTHY, State.CALLED, State.LIQUIDATING},
    State.CALLED: {State.CALLED, State.CURED, State.REDUCE_ONLY, State.LIQUIDATING},
    State.CURED: {State.HEALTHY, State.CALLED, State.LIQUIDATING},
    State.REDUCE_ONLY: {State.CURED, State.LIQUIDATING},
    State.LIQUIDATING: {State.CURED, State.CLOSED},
    State.CLOSED: set(),
}


def columns(states: States) -> tuple[list[int], ...]:
    return tuple(
        column.tolist() for column in (states.state, states.since, states.deadline, states.disputed)
    )


def moments(
    path: list[list[tuple[int, float, float, float, int, bool]]],
) -> list[tuple[int, MarginStatus]]:
    now, out = 0, []
    for rows in path:
        now += rows[0][0] * HOUR // 2
        _, margin, equity, add_on, positions, disputed = (
            np.array(column) for column in zip(*rows, strict=True)
        )
        out.append((now, MarginStatus(equity, margin, add_on, positions, disputed)))
    return out


@settings(max_examples=150, deadline=None)
@given(
    RULE_SETS,
    st.lists(st.lists(MOMENT, min_size=3, max_size=3), min_size=1, max_size=12),
    st.data(),
)
def test_any_path(
    rules: LifeCycleRules,
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
            if reason == Reason.DEADLINE_MISSED:
                assert now >= called_until[account]
            if after == State.CALLED:
                called_until[account] = deadline
            history.append((now, account, int(first), int(after), int(reason), deadline))
        assert [State(code).label for code in states.state] == [at[k] for k in range(3)]
        timed = np.isin(states.state, [State.CALLED, State.REDUCE_ONLY])
        assert ((states.deadline != NEVER) == timed).all()
        # No deadline stands over its time while the figures are known and nobody disputes.
        late = timed & (states.deadline <= now) & (states.disputed == NEVER)
        assert not (late & np.isfinite(now_figures.equity)).any()
    # Restart in the middle, and account by account.
    cut = data.draw(st.integers(0, len(walked)))
    resumed = past[cut]
    for now, now_figures in walked[cut:]:
        resumed, _ = advance(resumed, now_figures, now, rules)
    assert columns(resumed) == columns(states)
    alone = States.healthy(1)
    for now, f in walked:
        status = MarginStatus(
            f.equity[1:2],
            f.maintenance[1:2],
            f.add_on[1:2],
            f.positions[1:2],
            None if f.disputed is None else f.disputed[1:2],
        )
        alone, _ = advance(alone, status, now, rules)
    assert alone.state[0] == states.state[1]
    assert alone.deadline[0] == states.deadline[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=40), st.sampled_from(["call", "warning"]))
def test_no_flapping_within_a_band(moves: list[float], band: str) -> None:
    """Equity that moves within the hysteresis of a level changes the state once at most."""
    rules = LifeCycleRules(call_hours=1e6)
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
