"""Stress windows of real markets."""

from __future__ import annotations

from dataclasses import dataclass

from market.core.clock import DAY, parse_time

STRESS_DAYS_EACH_SIDE = 3


@dataclass(frozen=True, slots=True)
class StressWindow:
    """An event day and the three days on each side of it, in UTC.

    Attributes
    ----------
    name:
        Short identifier.
    event:
        The day of the event, ISO.
    """

    name: str
    event: str

    @property
    def start(self) -> int:
        """First nanosecond: midnight three days before the event's day."""
        return parse_time(self.event) - STRESS_DAYS_EACH_SIDE * DAY

    @property
    def end(self) -> int:
        """Nanosecond after the last: the end of the third day after the event's day."""
        return parse_time(self.event) + (STRESS_DAYS_EACH_SIDE + 1) * DAY


STRESS_WINDOWS = (
    StressWindow("covid_crash", "2020-03-12"),
    StressWindow("china_ban", "2021-05-19"),
    # UST lost its peg for good and LUNA its value between 9 and 12 May.
    StressWindow("luna", "2022-05-11"),
    # Celsius froze withdrawals overnight into 13 June.
    StressWindow("celsius", "2022-06-13"),
    StressWindow("ftx", "2022-11-08"),
    StressWindow("yen_carry", "2024-08-05"),
    StressWindow("tariffs", "2025-04-06"),
)
"""Every window, in time order."""
