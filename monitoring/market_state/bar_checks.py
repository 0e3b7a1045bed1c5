"""Posted bars, one by one: can this bar exist, and does it fit this market?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decisions.messages import BarIn
from market.bars.bar_cleaning import MAX_PRICE, MAX_VOLUME, MIN_PRICE, MIN_VOLUME, possible
from market.core.clock import DAY, Interval, format_time, parse_time
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]

MAX_AHEAD_DAYS = 400
"""A bar further beyond the newest one is a mistake, and would age every symbol at once."""

MAX_AHEAD_DAYS_UNCLOCKED = 7
"""The same where no wall clock vouches for the time: a gap as long as the warm-up."""


@dataclass(frozen=True, slots=True)
class SoundBar:
    """A bar that can be applied: its open, its symbol's column, its five values as in a panel."""

    open: int
    column: int
    values: Floats


@dataclass(frozen=True, slots=True)
class BarChecks:
    """What a bar is held against.

    Attributes
    ----------
    interval:
        Of the market.
    columns:
        Column of each symbol.
    now:
        Wall clock in nanoseconds; None where the bars themselves are the clock.
    max_ahead_days:
        How far beyond the newest bar a bar may open.
    """

    interval: Interval
    columns: Mapping[str, int]
    now: int | None
    max_ahead_days: int

    def check(self, interval: str, bars: Sequence[BarIn]) -> list[SoundBar | str]:
        """Each bar in plain numbers, or why it is rejected."""
        values = np.array([[b.open, b.high, b.low, b.close, b.volume] for b in bars], dtype=float)
        can_exist = possible(values.reshape(-1, 5)).tolist()
        return [
            self._check(interval, bar, own, sound)
            for bar, own, sound in zip(bars, values, can_exist, strict=True)
        ]

    def _check(
        self, interval: str, bar: BarIn, values: npt.NDArray[np.float64], can_exist: bool
    ) -> SoundBar | str:
        if interval != self.interval.name:
            return f"the interval is {interval!r}; this market has bars of {self.interval.name}"
        column = self.columns.get(bar.symbol)
        if column is None:
            return f"symbol {bar.symbol!r} is unknown to this market"
        try:
            open_ = parse_time(bar.ts)
        except DataError as error:
            return str(error)
        if not can_exist:
            return (
                f"such a bar cannot exist: expected prices from {MIN_PRICE:g} to {MAX_PRICE:g}, a "
                "high no lower and a low no higher than open and close, and a volume of 0 or from "
                f"{MIN_VOLUME:g} to {MAX_VOLUME:g}"
            )
        return self._check_time(open_) or SoundBar(open_, column, values)

    def _check_time(self, open_: int) -> str | None:
        step = self.interval.nanoseconds
        if open_ % step:
            return f"ts must be the open of a bar, a whole multiple of {self.interval.name}"
        if self.now is not None and open_ + step > self.now:
            return (
                f"the bar closes at {format_time(open_ + step)} and it is {format_time(self.now)}; "
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
