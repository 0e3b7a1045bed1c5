"""Daily closes kept from bars: the memory that historical simulations look back on."""

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


class DailyMemory:
    """The days that have ended, ten years of them, and the one that has not.

    A day ends with the bar that closes at 00:00 UTC, whether a symbol has that bar or not. Its
    close is the last one of the day and its variance ``sum(r^2)`` over the log returns of its
    bars, a return over a gap included; each NaN without a bar or a return. A gap makes no day up:
    a day without bars is a row of NaN, and after a gap of over a day the return is unknown.

    Attributes
    ----------
    ended:
        The days that have ended; replaced and never changed, so that copies can share it.
    """

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.ended = empty_daily_closes(symbols)
        self._today = np.zeros((len(symbols), 3))
        self._today[:, _LAST] = np.nan

    def advance(self, inputs: Floats, closes: npt.NDArray[np.int64]) -> DailyCloses:
        """Move through the columns of some bars, `inputs`, shape (17, S, T), that close
        at `closes`, shape (T,).

        Returns
        -------
        The days that were known before, and those that ended since.
        """
        midnight = closes % DAY == 0
        days = np.full((2, int(midnight.sum()), len(self._today)), np.nan)
        _days(inputs, midnight, self._today, days[0], days[1])
        known = self.ended
        if days.shape[1]:
            until = int(closes[midnight][-1])
            known = known.followed_by(DailyCloses(known.symbols, until, days[0], days[1]))
            self.ended = known.known_at(until)
        return known

    def copy(self) -> DailyMemory:
        """An independent copy."""
        twin = DailyMemory.__new__(DailyMemory)
        twin.ended, twin._today = self.ended, self._today.copy()
        return twin

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What to save."""
        return {
            _TODAY: self._today,
            _CLOSE: self.ended.close,
            _VARIANCE: self.ended.variance,
            _UNTIL: np.array([self.ended.until]),
        }

    @classmethod
    def of_arrays(
        cls, symbols: tuple[str, ...], saved: Mapping[str, npt.NDArray[Any]]
    ) -> DailyMemory:
        """What was saved; raises `DataError` where an array is missing or does not fit."""
        memory = cls(symbols)
        for name in memory.arrays():
            if name not in saved:
                raise DataError(
                    f"array {name!r} is missing: it was written by an earlier version; run retrain "
                    "to write it anew"
                )
        today, until = saved[_TODAY], saved[_UNTIL]
        if today.shape != memory._today.shape or until.shape != (1,) or until.dtype.kind != "i":
            raise DataError(f"arrays {_TODAY!r} and {_UNTIL!r} do not fit")
        memory._today = today
        memory.ended = DailyCloses(symbols, int(until[0]), saved[_CLOSE], saved[_VARIANCE])
        return memory


@njit(cache=True, error_model="numpy")
def _days(inputs, midnight, today, close, variance):  # type: ignore[no-untyped-def]
    """State: last close of the day, sum of squared returns, how many there were."""
    for s in range(today.shape[0]):
        own = today[s]
        day = 0
        for t in range(midnight.shape[0]):
            price, r = inputs[CLOSE, s, t], inputs[LOG_RETURN, s, t]
            if price == price:
                own[_LAST] = price
            if r == r:
                own[_SQUARES] += r * r
                own[_COUNT] += 1.0
            if midnight[t]:
                close[day, s] = own[_LAST]
                variance[day, s] = own[_SQUARES] if own[_COUNT] > 0.0 else np.nan
                day += 1
                own[_LAST] = np.nan
                own[_SQUARES] = 0.0
                own[_COUNT] = 0.0
