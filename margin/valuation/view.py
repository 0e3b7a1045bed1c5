"""What the rules may know of the market: plain numbers, no features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.bars.daily_closes import DailyCloses
from market.core.arrays import Bools, Floats
from market.quotes.quotes import QuoteBoard


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
    long_volatility:
        Standard deviation of the log return over one hour in all history of up to ten years,
        shape (S,).
    stressed_volatility:
        Highest realised volatility of a week (168 h) in that history, per hour, shape (S,).
    history_hours:
        Length of that history, shape (S,): hours of bars, whatever gaps lie between them.
    fast_correlation:
        Like `correlation`, with a shorter half-life, shape (S, S).
    suspect:
        Whether the newest price is quarantined, shape (S,).
    quotes:
        Quotes of options, perpetuals and coins, none after `as_of`; None where there are none.
    suspect_mark:
        Close of the newest bar where the outlier filter has not confirmed it yet, shape (S,); NaN
        where there is none. `mark` is then the last good close.
    suspect_ts:
        When that bar closed, nanoseconds, int64, shape (S,); 0 where there is none.
    mark_max_age_hours:
        A quoted mark older than this is not used; None: two intervals.
    daily:
        Daily closes that had ended by `as_of`, of the same symbols, for a rule set that simulates
        history; None where they were not asked for.

    `long_volatility` to `suspect` are not known where they are NaN, and nowhere where they are
    None. What a rule then puts in their place is never the milder figure: a stand-in that its rule
    set declares, no offset where a correlation is wanted, and a history of unknown length counts
    as too short.
    `suspect` = None means that no price is.
    """

    as_of: int
    symbols: tuple[str, ...]
    mark: Floats
    age_hours: Floats
    volatility: Floats
    adv: Floats
    correlation: Floats
    interval_hours: float = 1.0
    long_volatility: Floats | None = None
    stressed_volatility: Floats | None = None
    history_hours: Floats | None = None
    fast_correlation: Floats | None = None
    suspect: Bools | None = None
    quotes: QuoteBoard | None = None
    suspect_mark: Floats | None = None
    suspect_ts: npt.NDArray[np.int64] | None = None
    mark_max_age_hours: float | None = None
    daily: DailyCloses | None = None

    def volatility_or(self, stand_in: float) -> Floats:
        """The newest volatility, shape (S,); where it is not known the stand-in, or the long
        volatility where that is known and higher."""
        known = np.isfinite(self.volatility) & (self.volatility >= 0.0)
        instead = np.full(len(self.symbols), stand_in)
        if self.long_volatility is not None:
            instead = np.fmax(instead, self.long_volatility)
        return np.where(known, self.volatility, instead)

    def index(self) -> dict[str, int]:
        """Position of each symbol."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}
