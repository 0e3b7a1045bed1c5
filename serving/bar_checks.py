"""Posted bars, one by one: can this bar exist, and does it fit this market?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.bar_files import possible
from market.clock import DAY, Interval, format_time, parse_time
from market.errors import DataError
from serving.messages import BarIn

Floats = npt.NDArray[np.float64]

MAX_AHEAD_DAYS = 400
"""A bar further beyond the newest one is a mistake, and would age every symbol at once."""


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
    newest_open:
        Open of the newest bar, None before the first.
    now:
        Wall clock in nanoseconds; None where bars of any time may be posted.
    """

    interval: Interval
    columns: Mapping[str, int]
    newest_open: int | None
    now: int | None

    def check(self, interval: str, bar: BarIn) -> SoundBar | str:
        """The bar in plain numbers, or why it is rejected."""
        if interval != self.interval.name:
            return f"the interval is {interval!r}; this market has bars of {self.interval.name}"
        column = self.columns.get(bar.symbol)
        if column is None:
            return f"symbol {bar.symbol!r} is unknown to this market"
        try:
            open_ = parse_time(bar.ts)
        except DataError as error:
            return str(error)
        values = np.array([bar.open, bar.high, bar.low, bar.close, bar.volume])
        if not possible(values[None])[0]:
            return (
                "such a bar cannot exist: expected finite prices above 0, a high no lower and a "
                "low no higher than open and close, and a volume of 0 or more"
            )
        return self._check_time(open_) or SoundBar(open_, column, values)

    def _check_time(self, open_: int) -> str | None:
        step = self.interval.nanoseconds
        if open_ < 0 or open_ % step:
            return f"ts must be the open of a bar, a whole multiple of {self.interval.name}"
        if self.now is not None and open_ + step > self.now:
            return (
                f"the bar closes at {format_time(open_ + step)} and it is {format_time(self.now)}; "
                "post it once it has closed"
            )
        if self.newest_open is not None and open_ > self.newest_open + MAX_AHEAD_DAYS * DAY:
            return (
                f"ts is over {MAX_AHEAD_DAYS} days ahead of the newest bar, "
                f"{format_time(self.newest_open)}"
            )
        return None
