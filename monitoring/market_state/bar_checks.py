"""Posted bars, one by one: can this bar exist, and does it fit this market?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from market.bars.bar_cleaning import MAX_PRICE, MAX_VOLUME, MIN_PRICE, MIN_VOLUME, is_possible
from market.core.clock import DAY, Interval, format_time
from market.sources.base import BarUpdate

MAX_AHEAD_DAYS = 400
"""A bar further beyond the newest one is a mistake, and would age every symbol at once."""

MAX_AHEAD_DAYS_UNCLOCKED = 7
"""The same where no wall clock vouches for the time: a gap as long as the warm-up."""


@dataclass(frozen=True, slots=True)
class BarChecks:
    """The market and the times that a bar must fit.

    Attributes
    ----------
    interval:
        Of the market.
    columns:
        Column of each symbol.
    max_ahead_days:
        How far beyond the newest bar a bar may open.
    """

    interval: Interval
    columns: Mapping[str, int]
    max_ahead_days: int

    def check(self, interval: str, bars: Sequence[BarUpdate]) -> list[str | None]:
        """Why each bar is rejected; None where it can be applied."""
        values = np.array([bar.values for bar in bars], dtype=np.float64)
        can_exist = is_possible(values.reshape(-1, 5)).tolist()
        return [
            self._check(interval, bar, sound) for bar, sound in zip(bars, can_exist, strict=True)
        ]

    def _check(self, interval: str, bar: BarUpdate, can_exist: bool) -> str | None:
        if interval != self.interval.name:
            return f"the interval is {interval!r}; this market has bars of {self.interval.name}"
        if bar.symbol not in self.columns:
            return f"symbol {bar.symbol!r} is unknown to this market"
        if not can_exist:
            return (
                f"such a bar cannot exist: expected prices from {MIN_PRICE:g} to {MAX_PRICE:g}, a "
                "high no lower and a low no higher than open and close, and a volume of 0 or from "
                f"{MIN_VOLUME:g} to {MAX_VOLUME:g}"
            )
        close = bar.ts + self.interval.nanoseconds
        if bar.ts % self.interval.nanoseconds:
            return f"ts must be the open of a bar, a whole multiple of {self.interval.name}"
        if bar.known_at is not None and close > bar.known_at:
            return (
                f"the bar closes at {format_time(close)} and it is {format_time(bar.known_at)}; "
                "post it once it has closed"
            )
        return None

    def check_ahead(self, open_: int, newest_open: int | None) -> str | None:
        """Why a bar opens too far beyond the newest one; None if it does not."""
        if newest_open is None or open_ <= newest_open + self.max_ahead_days * DAY:
            return None
        return (
            f"ts is over {self.max_ahead_days} days ahead of the newest bar, "
            f"{format_time(newest_open)}; post the bars between, or start again with them"
        )
