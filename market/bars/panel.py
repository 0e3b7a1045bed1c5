"""A panel of bars: every symbol on one regular grid of bar opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from market.core.arrays import Floats, Ints
from market.core.clock import Interval

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
"""Columns of `BarPanel.values`."""

FUNDING, OPEN_INTEREST, IMPLIED_VOLATILITY, BASIS, SKEW, TERM_SLOPE, CURVATURE = range(7)
"""Columns of `BarPanel.exogenous`."""
EXOGENOUS_WIDTH = 7


@dataclass(frozen=True, slots=True)
class BarPanel:
    """Bars of several symbols on a regular grid.

    Attributes
    ----------
    interval:
        Length of a bar.
    symbols:
        Sorted bar symbols, length S.
    opens:
        Bar opens in nanoseconds, int64, shape (T,), evenly spaced and rising.
    values:
        Open, high, low, close (settlement currency) and volume (base units), float64, shape
        (T, S, 5), C-contiguous. A bar that does not exist is NaN in all five.
    exogenous:
        What else became known by each bar's close, shape (T, S, 7), or None where nothing did:
        funding rate an hour (fraction of notional), open interest (base units), implied-volatility
        index (annualised, decimal), basis (log of perpetual over spot price), and of the options'
        surface skew, term slope and curvature (annual vol, see `features.market.option_surface`).
        NaN where the bar brought nothing new; how long an old value still counts is for its reader
        to say.
    """

    interval: Interval
    symbols: tuple[str, ...]
    opens: Ints
    values: Floats
    exogenous: Floats | None = None

    @property
    def closes(self) -> Ints:
        """Bar closes in nanoseconds: when each row is known, and so the decision times."""
        return self.opens + np.int64(self.interval.nanoseconds)

    def __len__(self) -> int:
        return len(self.opens)

    def rows(self, start: int | None, stop: int | None) -> BarPanel:
        """Some rows as a panel of their own, by the rules of a slice; a view, not a copy."""
        part = slice(start, stop)
        exogenous = None if self.exogenous is None else self.exogenous[part]
        return BarPanel(self.interval, self.symbols, self.opens[part], self.values[part], exogenous)
