"""Deadlines from the acknowledgement of a call: bounds, joining types, disputes, every start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from margin.life_cycle.advance import advance
from margin.life_cycle.call_rules import MAINTENANCE, PROACTIVE, CallRules
from margin.life_cycle.states import NEVER, OPEN_CALL, MarginStatus, State, States
from margin.rules.enforcement import CallTypeRules
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.ruleset import load_ruleset, ruleset_from_content
from market.core.clock import HOUR
from market.core.errors import RuleSetError

WAIT, CALL = 3, {PROACTIVE: 5, MAINTENANCE: 2}
"""Hours."""

TYPES = (
    CallTypeRules(call_hours=5.0, consequence="reduce_only"),
    None,
    CallTypeRules(call_hours=2.0, grace_hours=1.0),
    None,
)
COMMIT = CallRules(TYPES, LifeCycleRules(stop_out_share=0.0))
WAITING = replace(COMMIT, waiting_hours=float(WAIT))


@dataclass
class Account:
    """One account, hour by hour, beside a maintenance margin of 100 and an add-on of 20."""

    rules: CallRules
    states: States
    acknowledged: bool = False

    @classmethod
    def new(cls, rules: CallRules) -> Account:
        return cls(rules, States.healthy(1))

    def step(self, hour: int, equity: float, *, acknowledge: bool = False, **flags: bool) -> None:
        if acknowledge:
            self.acknowledged = flags["clock_starts"] = True
        flags["acknowledged"] = self.acknowledged
        status = MarginStatus(
            np.array([equity]),
            np.array([100.0]),
            np.array([20.0]),
            np.array([2]),
            **{name: np.array([flag]) for name, flag in flags.items()},
        )
        self.states, _ = advance(self.states, status, hour * HOUR, self.rules)
        if not self.is_called:
            self.acknowledged = False

    @property
    def is_called(self) -> bool:
        return int(self.states.state[0]) in (*OPEN_CALL, State.REDUCE_ONLY)

    def deadlines(self) -> dict[int, float]:
        due = self.states.deadlines[0].tolist()
        return {i: time / HOUR for i, time in enumerate(due) if time != NEVER}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([90.0, 103.0, 110.0, 130.0]), min_size=1, max_size=14),
    st.sets(st.integers(0, 13)),
)
@example([110.0, 90.0, 90.0], {1})
@example([110.0, 110.0, 90.0], {1})
@example([90.0, 90.0, 90.0, 90.0, 90.0], {4})
def test_a_deadline_lies_between_both_ends(path: list[float], times: set[int]) -> None:
    """``min(commit + wait + hours, max(commit, acknowledgement) + hours)`` of each type."""
    account = Account.new(WAITING)
    commit: dict[int, int] = {}
    first: int | None = None
    for hour, equity in enumerate(path):
        before = account.is_called
        account.step(hour, equity, acknowledge=before and first is None and hour in times)
        if before and first is None and hour in times:
            first = hour
        found = account.deadlines()
        commit = {i: commit.get(i, hour) for i in found}
        if not account.is_called:
            first = None
        for i, due in found.items():
            assert commit[i] + CALL[i] <= due <= commit[i] + WAIT + CALL[i]
            begin = commit[i] + WAIT if first is None else max(commit[i], first)
            assert due == min(commit[i] + WAIT, begin) + CALL[i]


def test_from_commit_an_acknowledgement_moves_nothing() -> None:
    account = Account.new(COMMIT)
    account.step(0, 90.0)
    assert account.deadlines() == {PROACTIVE: 5.0, MAINTENANCE: 2.0}
    account.step(1, 90.0, acknowledge=True)
    assert account.deadlines() == {PROACTIVE: 5.0, MAINTENANCE: 2.0}


def test_a_call_that_nobody_acknowledges_runs_after_the_wait() -> None:
    account = Account.new(WAITING)
    for hour in range(7):
        account.step(hour, 90.0)
        missed = account.states.state[0] in (State.REDUCE_ONLY, State.LIQUIDATING)
        assert missed == (hour >= WAIT + CALL[MAINTENANCE])


def test_a_type_that_joins_an_acknowledged_call_does_not_wait() -> None:
    account = Account.new(WAITING)
    account.step(0, 110.0)
    account.step(1, 110.0, acknowledge=True)
    assert account.deadlines() == {PROACTIVE: 6.0}
    account.step(2, 90.0)
    assert account.deadlines() == {PROACTIVE: 6.0, MAINTENANCE: 4.0}
    late = Account.new(WAITING)
    late.step(0, 110.0)
    late.step(2, 90.0)
    assert late.deadlines() == {PROACTIVE: 8.0, MAINTENANCE: 7.0}


def test_the_next_call_waits_again() -> None:
    account = Account.new(WAITING)
    account.step(0, 110.0)
    account.step(1, 110.0, acknowledge=True)
    account.step(2, 130.0)
    account.step(3, 110.0)
    assert account.deadlines() == {PROACTIVE: 11.0}


@pytest.mark.parametrize(("undisputed", "due"), [(False, 10.0), (True, 7.0)])
def test_the_hours_of_a_disputed_call_stand_still_where_nothing_else_is_due(
    undisputed: bool, due: float
) -> None:
    """5 hours from the acknowledgement at 2; the clock of a call that is disputed altogether stood
    still from 1 to 5."""
    account = Account.new(WAITING)
    account.step(0, 110.0)
    account.step(1, 110.0, disputed=True, undisputed=undisputed)
    account.step(2, 110.0, acknowledge=True, disputed=True, undisputed=undisputed)
    account.step(5, 110.0)
    assert account.states.state[0] == State.CALLED
    assert account.deadlines() == {PROACTIVE: due}


def test_an_acknowledgement_after_the_deadline_is_too_late() -> None:
    account = Account.new(WAITING)
    account.step(0, 90.0)
    account.step(20, 90.0, acknowledge=True)
    assert account.states.state[0] in (State.REDUCE_ONLY, State.LIQUIDATING)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"acknowledgement_hours": 6.0}, "deadlines run from the commit; set"),
        ({"deadlines_from": "commit", "acknowledgement_hours": 6.0}, "leave acknowledgement_hours"),
        ({"deadlines_from": "acknowledgement"}, "give the hours after which"),
        ({"deadlines_from": "acknowledgement", "acknowledgement_hours": 0.0}, "> 0"),
        (
            {"deadlines_from": "acknowledgement", "acknowledgement_hours": float("inf")},
            "acknowledgement_hours = inf; expected a finite number",
        ),
        ({"deadlines_from": "delivery"}, "delivery"),
        (
            {
                "deadlines_from": "acknowledgement",
                "acknowledgement_hours": 6.0,
                "maintenance_margin": {"consequence": "advice"},
            },
            "no type of call has a deadline",
        ),
    ],
)
def test_tables_that_contradict_themselves_are_refused(table: dict[str, Any], words: str) -> None:
    content = load_ruleset("linear-tiers").content()
    content["enforcement"] = {"maintenance_margin": {}} | table
    with pytest.raises(RuleSetError, match=words):
        ruleset_from_content(content)


def test_rules_wait_where_they_say_so_and_other_rules_keep_their_digest() -> None:
    content = load_ruleset("linear-tiers").content()
    content["enforcement"] = {"maintenance_margin": {}}
    plain = ruleset_from_content(content)
    assert CallRules.of(plain).waiting_hours == 0.0
    assert "deadlines_from" not in plain.content()["enforcement"]
    content["enforcement"] |= {"deadlines_from": "acknowledgement", "acknowledgement_hours": 6.0}
    waiting = ruleset_from_content(content)
    assert CallRules.of(waiting).waiting_hours == 6.0
    assert ruleset_from_content(waiting.content()).sha256 == waiting.sha256 != plain.sha256
