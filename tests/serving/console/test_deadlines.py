"""Deadlines in words, and sums of open calls by deadline."""

from __future__ import annotations

import msgspec
import pytest

from enforcement.calls.call import AccountFigures, Call, Dispute, Opening
from market.core.clock import DAY, HOUR, MINUTE, SECOND, format_time, parse_time
from serving.console.views.deadlines import (
    call_time_left,
    duration,
    open_call_figures,
    time_left,
)

AT = "2026-01-02T00:00:00Z"
NOW = parse_time(AT)


def called(hours: float | None, outstanding: float = 10.0, **more: object) -> Call:
    figures = AccountFigures(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    call = Call(
        "c", "a", "call", (), "called", AT, Opening(AT, "market", 1), 9.0, outstanding, figures
    )
    deadline = None if hours is None else format_time(NOW + round(hours * HOUR))
    return msgspec.structs.replace(call, deadline=deadline, **more)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (2 * DAY + 3 * HOUR + MINUTE, "2 d 3 h"),
        (3 * HOUR + 5 * MINUTE + SECOND, "3 h 5 min"),
        (59 * MINUTE, "59 min"),
        (59 * SECOND, "less than a minute"),
    ],
)
def test_a_span_is_two_units(span: int, words: str) -> None:
    assert duration(span) == words


def test_time_left_names_what_is_overdue() -> None:
    late = time_left(format_time(NOW - 2 * HOUR), NOW)
    assert (late.words, late.kind) == ("overdue by 2 h 0 min", "bad")
    assert time_left(AT, NOW).kind == "warn"
    assert time_left(format_time(NOW + HOUR + 1_000), NOW).kind == ""
    assert time_left(None, NOW).words == ""


def test_calls_are_summed_by_deadline() -> None:
    disputed = Dispute("price", None, AT, AT, "k", "")
    part = msgspec.structs.replace(disputed, amount=4.0)
    calls = [
        called(-1.0, 1.0),
        called(0.5, 2.0),
        called(8.0, 4.0),
        called(25.0, 8.0),
        called(None, 16.0, state="bad_debt"),
        called(-2.0, 32.0, state="disputed", dispute=disputed),
        called(-2.0, 64.0, state="disputed", dispute=part),
    ]
    found = open_call_figures(calls, NOW)
    assert (found["count"], found["outstanding"]) == (7, 127.0)
    assert [(row[1], row[2]) for row in found["due"]] == [(2, 65.0), (1, 2.0), (2, 6.0), (2, 6.0)]
    assert [row[3] for row in found["due"]] == ["bad", "warn", "", ""]
    assert found["states"] == [("called", 4, 15.0), ("disputed", 2, 96.0), ("bad_debt", 1, 16.0)]


def test_a_dispute_of_all_stops_the_deadline() -> None:
    disputed = Dispute("price", None, AT, AT, "k", "")
    whole = called(-2.0, state="disputed", dispute=disputed)
    assert call_time_left(whole, NOW).words == "stopped by the dispute"
    ended = msgspec.structs.replace(whole, state="met", dispute=None, closed_at=AT)
    assert call_time_left(ended, NOW).words == ""


def test_after_a_missed_deadline_the_grace_counts() -> None:
    missed = called(5.0, state="reduce_only")
    left = call_time_left(missed, NOW)
    assert (left.words, left.kind) == ("deadline missed, grace: 5 h 0 min left", "bad")
    assert call_time_left(called(None, state="reduce_only"), NOW).words == ""


def test_without_calls_nothing_is_due() -> None:
    found = open_call_figures([], NOW)
    assert (found["count"], found["outstanding"], found["states"]) == (0, 0, [])
    assert [row[1:3] for row in found["due"]] == [(0, 0)] * 4
