"""Time of a simulated market that runs faster than the wall clock."""

from __future__ import annotations

from market.core.clock import SECOND

LONGEST_PAUSE = 5.0
"""A pause of the process counts as at most so many seconds: the market waits for it, and what it
would have posted meanwhile is not posted in one go."""


class AcceleratedClock:
    """Market time that moves on by `speed` seconds in one second.

    Parameters
    ----------
    start:
        Market time now, nanoseconds.
    speed:
        Above 0.
    now:
        Monotonic time, seconds.
    """

    def __init__(self, start: int, speed: float, now: float) -> None:
        self.time = start
        self._speed, self._last = speed, now

    def advance(self, now: float) -> int:
        """Market time at a monotonic time, nanoseconds."""
        passed = min(max(now - self._last, 0.0), LONGEST_PAUSE)
        self._last = now
        self.time += int(passed * self._speed * SECOND)
        return self.time

    def pause(self, seconds: float) -> None:
        """The market stood still for some of the time since the last advance."""
        self._last += seconds

    def move_to(self, time: int) -> None:
        """Go on from a later market time; an earlier one changes nothing."""
        self.time = max(self.time, time)
