"""A panel of bars: every symbol on one regular grid of bar opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.clock import Interval

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
"""Columns of `BarPanel.values`."""


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
    """

    interval: Interval
    symbols: tuple[str, ...]
    opens: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @property
    def closes(self) -> npt.NDArray[np.int64]:
        """Bar closes in nanoseconds: when each row is known, and so the decision times."""
        return self.opens + np.int64(self.interval.nanoseconds)

    def __len__(self) -> int:
        return len(self.opens)

    def rows(self, start: int | None, stop: int | None) -> BarPanel:
        """Some rows as a panel of their own, by the rules of a slice; a view, not a copy."""
        part = slice(start, stop)
        return BarPanel(self.interval, self.symbols, self.opens[part], self.values[part])
