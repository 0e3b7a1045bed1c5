"""Pauses grow, are capped, and vary by event and never by chance."""

from __future__ import annotations

from hypothesis import given, strategies as st

from enforcement.delivery.retries import RetryPolicy


@given(
    st.integers(1, 200),
    st.floats(0.1, 10.0),
    st.floats(10.0, 1_000.0),
    st.floats(0.0, 1.0),
    st.text(max_size=5),
)
def test_a_pause_lies_between_its_bounds(
    failures: int, first: float, cap: float, jitter: float, event: str
) -> None:
    policy = RetryPolicy(50, first, cap, jitter, seed=3)
    pause = policy.pause(event, "venue", failures)
    longest = min(cap, first * 2.0 ** min(failures - 1, 100))
    assert longest * (1.0 - jitter) <= pause <= longest
    assert pause == policy.pause(event, "venue", failures)


def test_events_and_seeds_spread_their_pauses() -> None:
    policy, other = RetryPolicy(jitter=1.0), RetryPolicy(jitter=1.0, seed=1)
    pauses = [policy.pause(f"call-{n}", "venue", 20) for n in range(400)]
    assert len(set(pauses)) == 400
    assert 130.0 < sum(pauses) / 400 < 170.0  # uniform up to the cap of 300 s
    assert other.pause("call-1", "venue", 20) != policy.pause("call-1", "venue", 20)
    assert policy.pause("call-1", "mail", 20) != policy.pause("call-1", "venue", 20)


def test_a_receiver_may_ask_for_more_time_up_to_the_cap() -> None:
    policy = RetryPolicy(jitter=0.0)
    assert policy.pause("a", "venue", 1) == 1.0
    assert policy.pause("a", "venue", 1, 30.0) == 30.0
    assert policy.pause("a", "venue", 1, 9_999.0) == 300.0
    assert policy.pause("a", "venue", 5, 3.0) == 16.0
