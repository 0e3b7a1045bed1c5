"""A market over its whole history, as labels follow it: marks as they came to be true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.state.market_state import MarketFeatures
from features.state.snapshot import MarketSnapshot
from margin.engines.equity_paths import MarketStep
from margin.valuation.view import MarketView
from market.bars.history import MarketHistory
from market.quotes.quotes import QuoteBoard

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

QuoteReader = Callable[[int], QuoteBoard | None]
"""Quotes known at a time in nanoseconds; times must not fall."""


def no_quotes() -> QuoteReader:
    """A reader that knows none."""
    return lambda as_of: None


@dataclass(frozen=True, slots=True)
class LabelMarket:
    """See `margin.engines.equity_paths.MarketPath`.

    Attributes
    ----------
    history, features:
        Marks and market features on the same grid.
    quotes:
        Opens a reader of the recorded quotes; one for each walk over the rows.
    mark_max_age:
        A quoted mark older than this many nanoseconds is not used; None: two intervals.
    """

    history: MarketHistory
    features: MarketFeatures
    quotes: Callable[[], QuoteReader] = no_quotes
    mark_max_age: int | None = None

    @property
    def age_hours(self) -> Floats:
        return self.features.age

    def usable(self) -> Bools:
        """Which symbols can be held and scored at each decision time, shape (T, S)."""
        return self.features.usable(self.history.bars.interval) & self.history.decidable()

    def steps(self, rows: Ints, *, fine: bool = False) -> Iterator[MarketStep]:
        """Within a bar, features are those of the close before it; marks are fine closes."""
        history, quotes = self.history, self.quotes()
        closes, steps = history.bars.closes, len(history.fine_mark) // len(history.mark)
        width = history.fine_interval.nanoseconds
        for row in rows.tolist():
            close = int(closes[row])
            for left in range(steps - 1, 0, -1) if fine and row > 0 else ():
                time, mark = close - left * width, history.fine_mark[(row + 1) * steps - 1 - left]
                closed = np.full(len(mark), time)
                yield MarketStep(row, False, self._view(row - 1, time, mark, quotes(time), closed))
            view = self._view(row, close, history.mark[row], quotes(close), None)
            yield MarketStep(row, True, view)

    def _view(
        self, row: int, time: int, mark: Floats, quotes: QuoteBoard | None, closed: Ints | None
    ) -> MarketView:
        return MarketSnapshot(
            as_of=time,
            interval=self.history.bars.interval,
            at_close=self.features.at(row, int(self.features.closes[row])),
            mark=mark,
            suspect=self.history.suspect_at(row),
            quotes=quotes,
            mark_max_age=self.mark_max_age,
            mark_close=closed,
        ).view()
