"""Daily closes from bars: the look-back of historical simulations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from features.market.inputs import CLOSE, LOG_RETURN
from market.bars.daily_closes import DailyCloses, empty_daily_closes
from market.core.clock import DAY
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]

_TODAY, _CLOSE, _VARIANCE, _UNTIL = "daily_today", "daily_close", "daily_variance", "daily_until"
_LAST, _SQUARES, _COUNT = range(3)


class DailyHistory:
    """The days that have ended, ten years of them, and the present one.

    A day ends with the bar that closes at 00:00 UTC, whether a symbol has that bar or not. Its
    close is the last one of the day and its variance ``sum(r^2)`` over the log returns of its
    bars, a return over a gap included; each NaN without a bar or a return. A gap is not filled:
    a day without bars is a row of NaN, and after a gap of over a day the return is unknown.

    Attributes
    ----------
    days:
        The days that have ended; replaced and never changed, so that copies can share it.
    """

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.days = empty_daily_closes(symbols)
        self._today = np.zeros((len(symbols), 3))
        self._today[:, _LAST] = np.nan

    def advance(self, inputs: Floats, closes: npt.NDArray[np.int64]) -> DailyCloses:
        """Advance through the columns of some bars, `inputs`, shape (20, S, T), that close at
        `closes`, shape (T,); returns the days known before and those that ended since.
        """
        midnight = closes % DAY == 0
        days = np.full((2, int(midnight.sum()), len(self._today)), np.nan)
        _days(inputs, midnight, self._today, days[0], days[1])
        known = self.days
        if days.shape[1]:
            until = int(closes[midnight][-1])
            known = known.followed_by(DailyCloses(known.symbols, until, days[0], days[1]))
            self.days = known.known_at(until)
        return known

    def copy(self) -> DailyHistory:
        """An independent copy."""
        twin = DailyHistory.__new__(DailyHistory)
        twin.days, twin._today = self.days, self._today.copy()
        return twin

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays to save."""
        return {
            _TODAY: self._today,
            _CLOSE: self.days.close,
            _VARIANCE: self.days.variance,
            _UNTIL: np.array([self.days.until]),
        }

    @classmethod
    def of_arrays(
        cls, symbols: tuple[str, ...], saved: Mapping[str, npt.NDArray[Any]]
    ) -> DailyHistory:
        """Read saved arrays; raises `DataError` where one is missing or does not fit."""
        history = cls(symbols)
        for name in history.arrays():
            if name not in saved:
                raise DataError(
                    f"array {name!r} is missing: it was written by an earlier version; run retrain "
                    "to write it anew"
                )
        today, until = saved[_TODAY], saved[_UNTIL]
        if today.shape != history._today.shape or until.shape != (1,) or until.dtype.kind != "i":
            raise DataError(f"arrays {_TODAY!r} and {_UNTIL!r} do not fit")
        history._today = today
        history.days = DailyCloses(symbols, int(until[0]), saved[_CLOSE], saved[_VARIANCE])
        return history


@njit(cache=True, error_model="numpy")
def _days(inputs, midnight, today, close, variance):  # type: ignore[no-untyped-def]
    """State: last close of the day, sum of squared returns, how many there were."""
    for s in range(today.shape[0]):
        row = today[s]
        day = 0
        for t in range(midnight.shape[0]):
            price, r = inputs[CLOSE, s, t], inputs[LOG_RETURN, s, t]
            if price == price:
                row[_LAST] = price
            if r == r:
                row[_SQUARES] += r * r
                row[_COUNT] += 1.0
            if midnight[t]:
                close[day, s] = row[_LAST]
                variance[day, s] = row[_SQUARES] if row[_COUNT] > 0.0 else np.nan
                day += 1
                row[_LAST] = np.nan
                row[_SQUARES] = 0.0
                row[_COUNT] = 0.0
