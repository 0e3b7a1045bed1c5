"""The market at the closes of a bar history, for rules that need marks and ages alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from margin.valuation.view import MarketView
from market.bars.history import MarketHistory
from market.bars.panel import CLOSE
from market.core.clock import HOUR
from market.quotes.quotes import QuoteBoard

Floats = npt.NDArray[np.float64]


class HistoryViews:
    """Views of a history row after row, as a decision at each close could know it.

    Volatility, volume and correlation are NaN: floors that need them take the view of
    `features.state.snapshot.MarketSnapshot`.

    Parameters
    ----------
    history:
        Bars and marks.
    mark_max_age:
        A quoted mark older than this many nanoseconds is not used; None: two intervals.
    """

    def __init__(self, history: MarketHistory, mark_max_age: int | None = None) -> None:
        self._history = history
        self._mark_max_age_hours = None if mark_max_age is None else mark_max_age / HOUR
        self._ages = BarAges(history)

    def at(self, row: int, quotes: QuoteBoard | None = None) -> MarketView:
        """The market at the close of `row`; rows must rise from call to call."""
        history, symbols = self._history, self._history.bars.symbols
        unknown: Floats = np.full(len(symbols), np.nan)
        return MarketView(
            as_of=int(history.bars.closes[row]),
            symbols=symbols,
            mark=history.last_mark(row),
            age_hours=self._ages.at(row),
            volatility=unknown,
            adv=unknown,
            correlation=np.full((len(symbols), len(symbols)), np.nan),
            interval_hours=1.0 / history.bars.interval.per_hour,
            suspect=history.suspect_at(row),
            quotes=quotes,
            mark_max_age_hours=self._mark_max_age_hours,
        )


class BarAges:
    """Age of each symbol's newest accepted bar, row after row."""

    def __init__(self, history: MarketHistory) -> None:
        self._close = history.bars.values[:, :, CLOSE]
        self._per_hour = history.bars.interval.per_hour
        self._next = 0
        self._last = np.full(self._close.shape[1], np.nan)

    def at(self, row: int) -> Floats:
        """Hours at the close of `row`, shape (S,); NaN before the first bar. Rows must rise."""
        for earlier in range(self._next, row + 1):
            self._last[~np.isnan(self._close[earlier])] = earlier
        self._next = row + 1
        age: Floats = (row - self._last) / self._per_hour
        return age
