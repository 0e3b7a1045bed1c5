"""What the rules may know of the market: plain numbers, no features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MarketView:
    """The market at one decision time, for S symbols.

    Attributes
    ----------
    as_of:
        Decision time in nanoseconds.
    symbols:
        Sorted bar symbols, length S.
    mark:
        Mark price in the settlement currency, shape (S,); NaN where there is none.
    age_hours:
        `as_of` minus the close of the newest bar, in hours, shape (S,); NaN without a bar.
    volatility:
        Standard deviation of the log return over one hour, shape (S,); NaN in warm-up.
    adv:
        Average daily volume in the settlement currency, shape (S,); NaN in warm-up.
    correlation:
        Correlation of hourly log returns, shape (S, S); NaN in warm-up.
    interval_hours:
        Length of a bar in hours; data are stale beyond two of them.
    """

    as_of: int
    symbols: tuple[str, ...]
    mark: Floats
    age_hours: Floats
    volatility: Floats
    adv: Floats
    correlation: Floats
    interval_hours: float = 1.0

    def index(self) -> dict[str, int]:
        """Position of each symbol."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}
