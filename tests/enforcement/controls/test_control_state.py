"""Controls: what holds of any commands at any times."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from enforcement.controls import AccountView, ControlOutcome, ControlState
from margin.rules.approval import ApprovalLimit, ApprovalRules
from market.core.clock import DAY, HOUR, format_time, parse_time

START = parse_time("2025-04-01T00:00:00Z")


@dataclass
class KnownCall:
    account_id: str = "a"
    kind: str = "call"
    state: str = "called"
    outstanding: float = 100.0
    dispute: object | None = None
    dispute_end: str | None = None
    acknowledged_at: str | None = None
    is_open: bool = True


@dataclass
class KnownInstruction:
    kind: str = "close"
    state: str = "issued"
    parameters: dict[str, Any] = field(default_factory=lambda: {"quantity": -2.0})
    is_open: bool = True


@dataclass
class Known:
    """Everything that the commands of these tests may name."""

    approval: ApprovalRules = field(
        default_factory=lambda: ApprovalRules(add_on=ApprovalLimit(10.0))
    )
    dispute_hours: float = 24.0
    calls: dict[str, KnownCall] = field(default_factory=lambda: {"c1": KnownCall()})
    instructions: dict[str, KnownInstruction] = field(
        default_factory=lambda: {"i1": KnownInstruction()}
    )
    accounts: dict[str, AccountView] = field(
        default_factory=lambda: {"a": AccountView(5.0, 50.0), "b": AccountView()}
    )

    def call(self, call_id: str) -> KnownCall | None:
        return self.calls.get(call_id)

    def instruction(self, instruction_id: str) -> KnownInstruction | None:
        return self.instructions.get(instruction_id)

    def account(self, account_id: str) -> AccountView | None:
        return self.accounts.get(account_id)


def numbered(command: dict[str, Any], seq: int = 1) -> dict[str, Any]:
    return {"requester": "k1", **command, "command_id": f"id-{seq}", "seq": seq}


def applied(
    command: dict[str, Any],
    state: ControlState | None = None,
    known: Known | None = None,
    now: int = START,
) -> tuple[ControlState, ControlOutcome]:
    state = state or ControlState()
    return state.apply(numbered(command, state.seq + 1), now, known or Known())


def add_on(value: float = 20.0, account: str = "a", hours: int = 10, **more: Any) -> dict[str, Any]:
    expires = format_time(START + hours * HOUR)
    return {
        "command": "override",
        "account_id": account,
        "add_on": value,
        "expires": expires,
        "reason": "hedged elsewhere",
        **more,
    }


ids = st.integers(1, 12).map(lambda n: f"id-{n}")
keys = st.sampled_from(["k1", "k2", "k3"])
commands = st.one_of(
    st.builds(
        lambda key, value, account, hours: add_on(value, account, hours, requester=key),
        keys,
        st.sampled_from([6.0, 20.0, 45.0, 55.0]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 60),
    ),
    st.builds(
        lambda key, hours: {
            "command": "override",
            "call_id": "c1",
            "deadline": format_time(START + hours * HOUR),
            "reason": "bank holiday",
            "requester": key,
        },
        keys,
        st.integers(1, 60),
    ),
    st.builds(
        lambda key, name: {"command": "approve", "override_id": name, "requester": key}, keys, ids
    ),
    st.builds(
        lambda key, name: {
            "command": "reject",
            "override_id": name,
            "note": "no",
            "requester": key,
        },
        keys,
        ids,
    ),
    st.builds(
        lambda modes, symbol: {
            "command": "mode",
            "modes": modes,
            "symbol": symbol,
            "reason": "outage",
        },
        st.lists(
            st.sampled_from(["rules_only", "no_calls", "no_instructions"]),
            min_size=1,
            max_size=3,
            unique=True,
        )
        | st.just(["normal"]),
        st.sampled_from([None, "BTCUSDT"]),
    ),
)
histories = st.lists(st.tuples(commands, st.integers(0, 5 * HOUR)), max_size=30)


def replayed(history: list[tuple[dict[str, Any], int]]) -> list[tuple[ControlState, Any, int]]:
    state, now, known = ControlState(), START, Known()
    steps = []
    for seq, (command, wait) in enumerate(history, 1):
        now += wait
        state, ended = state.expired(now)
        state, outcome = state.apply(numbered(command, seq), now, known)
        steps.append((state, (ended, outcome), now))
    return steps


@settings(max_examples=200, deadline=None)
@given(histories)
def test_invariants_of_any_history(history: list[tuple[dict[str, Any], int]]) -> None:
    steps = replayed(history)
    for state, (_, outcome), now in steps:
        active = [o for o in state.overrides.values() if o.state == "active"]
        targets = [(o.kind, o.target) for o in active]
        assert len(targets) == len(set(targets))
        for override in active:
            assert override.requester != override.approver
            assert parse_time(override.expires) > now
            if override.approver is None:
                assert override.kind == "add_on"
                assert override.amount < 10.0
        add_ons = {o.target: o.add_on for o in active if o.kind == "add_on"}
        assert state.add_ons(now) == add_ons
        assert all(value >= 5.0 for name, value in state.add_ons(now).items() if name == "a")
        assert state.add_ons(now + 100 * DAY) == {}
        later, _ = state.expired(now + 100 * DAY)
        assert later.overrides == {}
        json.dumps(outcome.record)
        written = json.loads(json.dumps(state.to_content()))
        assert ControlState.of_content(written) == state
    assert replayed(history) == steps


@settings(max_examples=100, deadline=None)
@given(histories, st.data())
def test_a_command_that_was_applied_changes_nothing_again(
    history: list[tuple[dict[str, Any], int]], data: st.DataObject
) -> None:
    steps = replayed(history)
    if not steps:
        return
    state, _, now = steps[-1]
    seq = data.draw(st.integers(1, len(history)))
    again, outcome = state.apply(numbered(history[seq - 1][0], seq), now, Known())
    assert again == state
    assert outcome.record is None
    assert not outcome.effects


def test_a_large_override_counts_once_another_key_approves_it() -> None:
    state, outcome = applied(add_on(20.0))
    assert outcome.record is not None
    assert outcome.record["result"] == "pending"
    assert state.add_ons(START) == {}
    own, refused = applied({"command": "approve", "override_id": "id-1"}, state)
    assert refused.refused is not None
    assert "another key" in refused.refused
    approval = {"command": "approve", "override_id": "id-1", "requester": "k2"}
    state, outcome = applied(approval, own)
    assert outcome.effects == ({"effect": "add_on_changed", "account_id": "a"},)
    assert state.add_ons(START) == {"a": 20.0}
    assert state.add_ons(START + 10 * HOUR) == {}


def test_a_small_override_counts_at_once_and_replaces_the_active_one() -> None:
    state, outcome = applied(add_on(45.0))
    assert outcome.record is not None
    assert outcome.record["result"] == "applied"
    state, outcome = applied(add_on(47.0), state)
    assert outcome.record is not None
    assert [o["state"] for o in outcome.record["overrides"]] == ["active", "replaced"]
    assert state.add_ons(START) == {"a": 47.0}


def test_a_pending_override_lapses() -> None:
    state, _ = applied(add_on(20.0, hours=100))
    late = {"command": "approve", "override_id": "id-1", "requester": "k2"}
    _, outcome = applied(late, state, now=START + 24 * HOUR)
    assert outcome.kind == "conflict"
    state, records = state.expired(START + 24 * HOUR)
    assert [record["overrides"][0]["state"] for record in records] == ["expired"]
    assert not state.overrides


def test_a_deadline_moves_and_stays_until_a_day_after_it() -> None:
    deadline = START + 30 * HOUR
    moved = {
        "command": "override",
        "call_id": "c1",
        "deadline": format_time(deadline),
        "reason": "bank holiday",
    }
    state, _ = applied(moved)
    state, _ = applied({"command": "approve", "override_id": "id-1", "requester": "k2"}, state)
    assert state.deadline("c1") == deadline
    assert state.expired(deadline)[0].deadline("c1") == deadline
    assert state.expired(deadline + DAY)[0].deadline("c1") is None


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        (add_on(4.0), "conflict", "floor"),
        (add_on(20.0, account="nobody"), "not_found", "nobody"),
        (add_on(20.0, hours=0), "invalid", "expires"),
        (add_on(20.0, hours=721), "invalid", "expires"),
        (add_on(20.0, call_id="c1"), "invalid", "one thing"),
        (add_on(20.0, expires=None), "invalid", "expires is missing"),
        (add_on(20.0, expires="soon"), "invalid", "soon"),
        (add_on(20.0, reason=""), "invalid", "reason"),
        (
            {
                "command": "override",
                "call_id": "c1",
                "deadline": "2025-03-01T00:00:00Z",
                "reason": "late",
            },
            "invalid",
            "2025-03-01",
        ),
        ({"command": "approve", "override_id": "x"}, "not_found", "x"),
        ({"command": "dance"}, "invalid", "dance"),
        ({"command": "mode", "modes": ["normal", "no_calls"], "reason": "x"}, "invalid", "alone"),
        ({"command": "dispute", "call_id": "c1", "reason": "mood"}, "invalid", "mood"),
        (
            {"command": "dispute", "call_id": "c1", "reason": "price", "amount": 101.0},
            "invalid",
            "100.0",
        ),
        ({"command": "dispute", "call_id": "c9", "reason": "price"}, "not_found", "c9"),
        (
            {"command": "resolve", "call_id": "c1", "outcome": "accepted", "note": "ok"},
            "conflict",
            "not disputed",
        ),
        (
            {"command": "acknowledge", "instruction_id": "i1", "status": "filled"},
            "invalid",
            "quantity is missing",
        ),
        (
            {
                "command": "acknowledge",
                "instruction_id": "i1",
                "status": "filled",
                "quantity": 2.0,
            },
            "invalid",
            "sign",
        ),
        (
            {
                "command": "acknowledge",
                "instruction_id": "i1",
                "status": "rejected",
                "quantity": -2.0,
            },
            "invalid",
            "leave it out",
        ),
        (
            {"command": "acknowledge", "instruction_id": "i9", "status": "acknowledged"},
            "not_found",
            "i9",
        ),
    ],
)
def test_refused_commands_say_why(command: dict[str, Any], kind: str, words: str) -> None:
    state, outcome = applied(command)
    assert outcome.kind == kind
    assert words in str(outcome.refused)
    assert outcome.record is not None
    assert outcome.record["refused"] == outcome.refused
    assert state == ControlState(seq=1)


def test_modes_of_one_market_add_to_those_of_all() -> None:
    state, _ = applied({"command": "mode", "modes": ["no_calls"], "reason": "outage"})
    btc = {"command": "mode", "modes": ["rules_only"], "symbol": "BTCUSDT", "reason": "model"}
    state, _ = applied(btc, state)
    assert state.mode() == {"no_calls"}
    assert state.mode("BTCUSDT") == {"no_calls", "rules_only"}
    state, outcome = applied({"command": "mode", "modes": ["normal"], "reason": "over"}, state)
    assert outcome.record is not None
    assert outcome.record["modes"] == ["normal"]
    assert state.mode() == frozenset()
    assert state.mode("BTCUSDT") == {"rules_only"}


def test_a_dispute_is_opened_once_and_resolved_by_a_person() -> None:
    known = Known()
    command = {"command": "dispute", "call_id": "c1", "reason": "price", "amount": 40.0}
    state, outcome = applied(command, known=known)
    (effect,) = outcome.effects
    dispute = effect["dispute"]
    assert (dispute["amount"], dispute["until"]) == (40.0, "2025-04-02T00:00:00Z")
    known.calls["c1"] = KnownCall(state="disputed", dispute=dispute)
    resolve = {"command": "resolve", "call_id": "c1", "outcome": "rejected", "note": "index holds"}
    state, outcome = applied(resolve, state, known)
    assert outcome.effects[0]["outcome"] == "rejected"
    known.calls["c1"] = KnownCall(dispute_end="rejected")
    _, outcome = applied(command, state, known)
    assert "disputed once" in str(outcome.refused)


def test_a_call_is_acknowledged_once() -> None:
    command = {"command": "acknowledge_call", "call_id": "c1", "reference": "n-1"}
    _, outcome = applied(command)
    acknowledgement = {"time": format_time(START), "by": "k1", "reference": "n-1"}
    effect = {"effect": "call_acknowledged", "call_id": "c1", "acknowledgement": acknowledgement}
    assert outcome.effects == (effect,)
    for known, words in (
        (KnownCall(acknowledged_at="2025-03-31T23:00:00Z"), "already at 2025-03-31T23:00:00Z"),
        (KnownCall(kind="advice"), "no advice"),
        (KnownCall(is_open=False, state="met"), "only an open margin call"),
    ):
        _, outcome = applied(command, known=Known(calls={"c1": known}))
        assert outcome.kind == "conflict"
        assert words in str(outcome.refused)
    _, outcome = applied(command | {"call_id": "c9"})
    assert (outcome.kind, outcome.effects) == ("not_found", ())


def test_an_answer_of_the_venue() -> None:
    command = {
        "command": "acknowledge",
        "instruction_id": "i1",
        "status": "partly_filled",
        "quantity": -1.5,
        "price": 80_000.0,
    }
    _, outcome = applied(command)
    (effect,) = outcome.effects
    assert effect["answer"] == {
        "status": "partly_filled",
        "time": "2025-04-01T00:00:00Z",
        "quantity": -1.5,
        "price": 80_000.0,
        "by": "k1",
    }
    known = Known(instructions={"i1": KnownInstruction(state="timed_out", is_open=False)})
    _, outcome = applied(command, known=known)
    assert outcome.kind == "conflict"
