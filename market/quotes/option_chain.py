"""Option chains as venues publish them: one row an option, a snapshot at a time.

Prices are in units of the coin, as on venues that settle in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from market.core.arrays import Bools, Floats, Ints
from market.core.clock import DAY, HOUR

YEAR = 365 * DAY


@dataclass(frozen=True, slots=True)
class ChainVenue:
    """How a venue writes its chain.

    Attributes
    ----------
    vol_unit:
        What 1 in its column of mark vols is as a decimal: 0.01 where it writes per cent.
    expiry_hour:
        Hour of the day, UTC, at which options expire; an expiry stamped with midnight is a date.
    """

    vol_unit: float
    expiry_hour: int


VENUES: Mapping[str, ChainVenue] = {
    "deribit": ChainVenue(vol_unit=0.01, expiry_hour=8),
    "okx": ChainVenue(vol_unit=1.0, expiry_hour=8),
}
"""By the name in the column ``exchange``. Both expire at 08:00 UTC: only with that hour do the
marks of the last days agree with their vols."""


@dataclass(frozen=True, slots=True)
class ChainQuality:
    """What was found wrong in a chain, in rows, and what was done about it.

    Attributes
    ----------
    rows, used:
        Rows of the file, and what is left of them.
    repeated:
        The instrument stands in the same snapshot twice; the first row is kept.
    expired:
        No time is left at the snapshot; dropped.
    impossible:
        The strike is not above 0, or the underlying's price is neither above 0 nor missing;
        dropped.
    crossed:
        The bid is above the ask; neither is used, the mark is.
    no_bid, no_ask, no_vol:
        What is missing (0 counts as missing); the rest of the row is used.
    """

    rows: int
    used: int
    repeated: int
    expired: int
    impossible: int
    crossed: int
    no_bid: int
    no_ask: int
    no_vol: int


@dataclass(frozen=True, slots=True)
class OptionChain:
    """N options, sorted by snapshot, underlying, expiry, strike, puts first.

    Attributes
    ----------
    venue:
        Name of the exchange.
    underlyings:
        Sorted names that `underlying` counts in.
    ts, expiry:
        Snapshot and expiry in nanoseconds, shape (N,).
    underlying:
        Index into `underlyings`, shape (N,).
    strike:
        In USD, shape (N,).
    call:
        True for calls, shape (N,).
    mark, bid, ask:
        Prices in units of the coin, shape (N,); NaN where there is none.
    vol:
        Mark vol, annual, as a decimal, shape (N,); NaN where there is none.
    underlying_price:
        What the venue states, USD, shape (N,); NaN where it states none.
    quality:
        What was found wrong.
    """

    venue: str
    underlyings: tuple[str, ...]
    ts: Ints
    expiry: Ints
    underlying: Ints
    strike: Floats
    call: Bools
    mark: Floats
    bid: Floats
    ask: Floats
    vol: Floats
    underlying_price: Floats
    quality: ChainQuality

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def tau(self) -> Floats:
        """Years from snapshot to expiry, shape (N,); a year has 365 days."""
        return np.asarray((self.expiry - self.ts) / YEAR)

    def snapshots(self) -> Iterator[tuple[int, str, tuple[slice, ...]]]:
        """Each snapshot of each underlying: its time, the underlying, the rows of every expiry,
        the nearest first."""
        starts = _starts(self.ts, self.underlying, self.expiry)
        ends = np.r_[starts[1:], len(self)].astype(np.int64)
        first = 0
        for i in range(1, len(starts) + 1):
            row = starts[first]
            if i < len(starts):
                same_time = self.ts[starts[i]] == self.ts[row]
                if same_time and self.underlying[starts[i]] == self.underlying[row]:
                    continue
            rows = tuple(slice(int(starts[j]), int(ends[j])) for j in range(first, i))
            yield int(self.ts[row]), self.underlyings[self.underlying[row]], rows
            first = i


def expiry_moment(stamps: Ints, venue: ChainVenue) -> Ints:
    """Moments of expiry: a stamp at midnight is a date and gets the venue's hour."""
    return np.where(stamps % DAY == 0, stamps + venue.expiry_hour * HOUR, stamps)


def _starts(*keys: Ints) -> Ints:
    """Where the rows begin in which any of the keys differs from the row above."""
    changed = np.zeros(len(keys[0]), dtype=np.bool_)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)
