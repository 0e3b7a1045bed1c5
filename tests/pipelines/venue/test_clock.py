from __future__ import annotations

from market.core.clock import SECOND
from pipelines.venue.clock import LONGEST_PAUSE, AcceleratedClock


def test_market_time_moves_on_speed_times_as_fast() -> None:
    clock = AcceleratedClock(1_000 * SECOND, 600.0, now=50.0)
    assert clock.advance(50.0) == 1_000 * SECOND
    assert clock.advance(51.0) == 1_600 * SECOND
    assert clock.advance(51.5) == 1_900 * SECOND


def test_a_long_pause_is_not_caught_up() -> None:
    clock = AcceleratedClock(0, 10.0, now=0.0)
    assert clock.advance(3_600.0) == LONGEST_PAUSE * 10 * SECOND
    assert clock.advance(3_601.0) == (LONGEST_PAUSE + 1) * 10 * SECOND


def test_it_moves_to_a_later_time_and_never_back() -> None:
    clock = AcceleratedClock(100, 1.0, now=0.0)
    clock.move_to(500)
    clock.move_to(50)
    assert clock.time == 500
    assert clock.advance(-1.0) == 500, "a clock that was set back does not move it"
