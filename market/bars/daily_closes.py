"""Daily closes: what a historical simulation looks back on, as facts by day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from market.core.arrays import Floats, Ints
from market.core.clock import DAY, format_time
from market.core.errors import DataError

MAX_DAYS = 3_653
"""Ten years: what older days tell is forgotten."""


@dataclass(frozen=True, eq=False)
class DailyCloses:
    """Closes of D consecutive days that end at 00:00 UTC, for S symbols.

    Told apart by identity: it is never changed, only followed by another one.

    Attributes
    ----------
    symbols:
        Sorted, length S.
    until:
        End of the last day, nanoseconds; of no meaning without a day.
    close:
        Last price of the day, shape (D, S); NaN where the symbol had no bar in it.
    variance:
        Sum of the squared log returns of the day's bars, shape (D, S); NaN without a return.
    """

    symbols: tuple[str, ...]
    until: int
    close: Floats
    variance: Floats

    def __post_init__(self) -> None:
        days = len(self.close)
        for name, array in (("close", self.close), ("variance", self.variance)):
            if array.shape != (days, len(self.symbols)):
                raise DataError(
                    f"daily closes: {name} has shape {array.shape}; expected {days} days of "
                    f"{len(self.symbols)} symbols"
                )
        if days and (self.until % DAY or self.until < days * DAY):
            raise DataError(
                f"daily closes end at {format_time(self.until)} after {days} days; expected the "
                "00:00 UTC at which the last day ends"
            )

    def __len__(self) -> int:
        return len(self.close)

    @property
    def ended(self) -> Ints:
        """End of each day in nanoseconds, shape (D,)."""
        return self.until - DAY * np.arange(len(self) - 1, -1, -1, dtype=np.int64)

    def known_at(self, moment: int) -> DailyCloses:
        """The days that had ended by a moment, the newest `MAX_DAYS` of them."""
        count = int(np.searchsorted(self.ended, moment, side="right"))
        if count == 0:
            return empty_daily_closes(self.symbols)
        first = max(0, count - MAX_DAYS)
        if first == 0 and count == len(self):
            return self
        until = self.until - DAY * (len(self) - count)
        return DailyCloses(self.symbols, until, self.close[first:count], self.variance[first:count])

    def followed_by(self, later: DailyCloses) -> DailyCloses:
        """These days and then those of `later` that come after them.

        Raises
        ------
        DataError
            There is a hole between them.
        """
        if not len(self) or not len(later):
            return later if len(later) else self
        new = (later.until - self.until) // DAY
        if new > len(later):
            raise DataError(
                f"daily closes from {format_time(int(later.ended[0]))} do not follow on "
                f"{format_time(self.until)}: days are missing between them"
            )
        if new <= 0:
            return self
        return DailyCloses(
            self.symbols,
            later.until,
            np.concatenate([self.close, later.close[-new:]]),
            np.concatenate([self.variance, later.variance[-new:]]),
        )

    def content(self) -> dict[str, Any]:
        """Plain form for the ledger; floats survive it to the last bit, NaN becomes null."""
        return {
            "symbols": list(self.symbols),
            "until": self.until,
            "close": _lists(self.close),
            "variance": _lists(self.variance),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> DailyCloses:
        """Read the plain form; raises `DataError` where it does not fit together."""
        symbols = tuple(content["symbols"])
        close, variance = (
            np.array(content[key], dtype=np.float64).reshape(-1, len(symbols))
            for key in ("close", "variance")
        )
        return cls(symbols, int(content["until"]), close, variance)


def empty_daily_closes(symbols: tuple[str, ...]) -> DailyCloses:
    """Daily closes before the first day has ended."""
    nothing = np.empty((0, len(symbols)))
    return DailyCloses(symbols, 0, nothing, nothing)


def _lists(values: Floats) -> list[Any]:
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return list(plain.tolist())
