"""What clients do about calls is drawn by seed and event, and lies within what a call asks for."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, strategies as st

from market.core.clock import HOUR, format_time, parse_time
from pipelines.venue.client_answers import CHOICES, Answer, answer_call

NOW = parse_time("2025-04-01T00:00:00Z")
DUE = NOW + 24 * HOUR


def event(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": name,
        "topic": "call",
        "event": "opened",
        "kind": "call",
        "call_id": f"c-{name}",
        "account_id": "a",
        "outstanding": 1_000.0,
        "deadline": format_time(DUE),
    } | changes


def kind_of(answer: Answer | None) -> str:
    if answer is None:
        return "miss"
    if answer.dispute is not None:
        return "dispute"
    return "meet" if answer.deposit >= 1_000.0 else "part"


def test_the_population_answers_in_the_stated_shares() -> None:
    count = 4_000
    found = Counter(kind_of(answer_call(event(str(n)), 7, NOW)) for n in range(count))
    for choice, share in CHOICES.items():
        assert abs(found[choice] / count - share) < 0.03


@given(st.text(max_size=20), st.integers(0, 2**40), st.floats(0.01, 1e12))
def test_an_answer_is_in_time_and_never_above_what_is_asked(
    name: str, seed: int, outstanding: float
) -> None:
    answer = answer_call(event(name, outstanding=outstanding), seed, NOW)
    assert answer == answer_call(event(name, outstanding=outstanding), seed, NOW)
    if answer is None:
        return
    assert NOW <= answer.at < DUE
    assert (answer.account_id, answer.call_id) == ("a", f"c-{name}")
    assert 0.0 <= answer.deposit <= 1.03 * outstanding + 0.01
    if answer.dispute is not None:
        assert answer.deposit == 0.0
        assert answer.dispute.get("amount", outstanding) <= outstanding


def test_who_misses_a_call_misses_it_however_often_it_is_raised() -> None:
    for name in map(str, range(200)):
        first = answer_call(event(name), 7, NOW)
        raised = answer_call(
            event(name, event="raised", event_id=f"{name}-2", outstanding=2_000.0), 7, NOW
        )
        if kind_of(first) == "meet":
            assert raised is not None
            assert raised.deposit == 2_040.0
        else:
            assert raised is None


def test_seeds_differ_and_only_new_demands_are_answered() -> None:
    names = [str(n) for n in range(50)]
    assert [answer_call(event(n), 1, NOW) for n in names] != [
        answer_call(event(n), 2, NOW) for n in names
    ]
    for changes in ({"event": "met"}, {"event": "deadline_missed"}, {"kind": "advice"}):
        assert {answer_call(event(n, **changes), 1, NOW) for n in names} == {None}
