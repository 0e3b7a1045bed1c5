"""The live book at one place of its chain: what a pass works on while the book goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ledger.following import ChainHead
from market.accounts.book import Account, Book
from market.core.arrays import Ints
from monitoring.book.live_book import BookSegment, LiveBook


@dataclass(frozen=True, slots=True)
class BookCut:
    """All accounts of a live book at one time, numbered through its segments.

    Attributes
    ----------
    head:
        The newest record of the chain ``accounts`` that it contains.
    segments:
        As they were then.
    first:
        Number of the first account of each segment, and of all accounts.
    """

    head: ChainHead
    segments: tuple[BookSegment, ...]
    first: tuple[int, ...]

    @classmethod
    def of(cls, live: LiveBook) -> BookCut:
        """The live book as it is now."""
        return cls.joined(live.head, live.segments)

    @classmethod
    def joined(cls, head: ChainHead, segments: Sequence[BookSegment]) -> BookCut:
        """Segments in their order."""
        sizes = (len(segment.book) for segment in segments)
        return cls(head, tuple(segments), (0, *accumulate(sizes)))

    def __len__(self) -> int:
        return self.first[-1]

    def row(self, place: tuple[int, int]) -> int:
        """Number of the account at a place of the live book."""
        return self.first[place[0]] + place[1]

    def slices(self) -> Iterator[tuple[BookSegment, slice]]:
        """Each segment with the numbers of its accounts."""
        for k, segment in enumerate(self.segments):
            yield segment, slice(self.first[k], self.first[k + 1])

    def take(self, rows: Ints) -> Book:
        """Some accounts as a book; `rows` rise within each segment and go on to the next ones."""
        parts = [self.segments[k].book.take(inside) for k, inside in self._by_segment(rows)]
        return Book.joined(parts) if parts else Book.of([])

    def sequence(self, rows: Ints) -> Ints:
        """Sequence numbers of some accounts, in the order of `take`."""
        parts = [self.segments[k].sequence[inside] for k, inside in self._by_segment(rows)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _by_segment(self, rows: Ints) -> Iterator[tuple[int, Ints]]:
        if not len(rows):
            return
        segment = np.searchsorted(self.first, rows, side="right") - 1
        begin = np.flatnonzero(np.diff(segment, prepend=-1))
        for start, end in zip(begin.tolist(), [*begin[1:].tolist(), len(rows)], strict=True):
            k = int(segment[start])
            yield k, rows[start:end] - self.first[k]

    def account(self, row: int) -> Account:
        """One account."""
        return self.take(np.array([row])).accounts()[0]

    def positions(self, row: int) -> dict[str, float]:
        """Quantity of each instrument of one account, see `positions_of`."""
        return positions_of(self.account(row))

    def names(self, begin: int = 0) -> list[str]:
        """Ids of the accounts in their order, from a number on."""
        parts = zip(self.first, self.segments, strict=False)
        return [
            name
            for first, segment in parts
            if first + len(segment.book) > begin
            for name in segment.book.account_ids[max(0, begin - first) :]
        ]


def positions_of(account: Account) -> dict[str, float]:
    """Quantity of each instrument of an account, zero quantities left out.

    Where an instrument is named twice its last quantity stands, as in a recorded decision.
    """
    legs = account.positions
    return {leg.instrument: leg.quantity for leg in legs if leg.quantity != 0.0}
