"""The live book of one process: all accounts in memory, in segments of flat arrays."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ledger.following import ChainHead
from ledger.store import Ledger
from market.accounts.book import Book
from market.core.arrays import Bools, Ints
from monitoring.book.account_store import AccountStore
from monitoring.book.book_account import BookAccount

SEGMENT_ACCOUNTS = 2_000
"""Most accounts of a segment: a change of one account rebuilds the arrays of its segment."""


@dataclass(frozen=True, slots=True)
class BookSegment:
    """Up to `SEGMENT_ACCOUNTS` accounts in flat arrays; n of them.

    Attributes
    ----------
    book:
        The accounts. An account never leaves its segment and row.
    sequence:
        Number of the newest update of each, int64, shape (n,).
    as_of:
        When it held, nanoseconds, int64, shape (n,).
    out_of_sync:
        Whether an update is known to be missing, shape (n,).
    """

    book: Book
    sequence: Ints
    as_of: Ints
    out_of_sync: Bools

    @classmethod
    def of(cls, accounts: Sequence[BookAccount]) -> BookSegment:
        """The segment of some accounts, in their order."""
        return cls(
            Book.of([account.account for account in accounts]),
            np.array([account.sequence for account in accounts], dtype=np.int64),
            np.array([account.as_of for account in accounts], dtype=np.int64),
            np.array([not account.in_sync for account in accounts], dtype=np.bool_),
        )


class LiveBook:
    """The accounts of a ledger in memory. Safe to use from several threads.

    Equal records give equal accounts to the last bit, in whichever process and after whichever
    restart.

    Parameters
    ----------
    ledger:
        Where the accounts are.

    Attributes
    ----------
    head:
        The newest record of chain ``accounts`` that the book contains.
    segments:
        All accounts; replaced as a whole by `catch_up`, never changed in place.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._store = AccountStore(ledger)
        self._lock = threading.Lock()
        self._accounts: list[list[BookAccount]] = []
        self._places: dict[str, tuple[int, int]] = {}
        self.head = ChainHead()
        self.segments: tuple[BookSegment, ...] = ()

    def __len__(self) -> int:
        return len(self._places)

    def catch_up(self) -> Collection[str]:
        """Apply what was recorded since; gives the ids of the accounts that changed.

        Raises
        ------
        LedgerError
            The ledger cannot be read; the book stays as it was.
        AlteredError
            The chain was cut or altered, or a row is not what its record says.
        """
        with self._lock:
            changes = self._store.changes(self.head)
            touched: set[int] = set()
            for account_id, account in changes.accounts.items():
                touched.add(self._put(account_id, account))
            segments = list(self.segments)
            segments += [BookSegment.of([])] * (len(self._accounts) - len(segments))
            for place in touched:
                segments[place] = BookSegment.of(self._accounts[place])
            self.segments, self.head = tuple(segments), changes.head
            return changes.accounts.keys()

    def find(self, account_id: str) -> BookAccount | None:
        """An account; None where the book has none of this id."""
        with self._lock:
            place = self._places.get(account_id)
            return None if place is None else self._accounts[place[0]][place[1]]

    def place(self, account_id: str) -> tuple[int, int] | None:
        """Segment and row of an account; None where the book has none of this id."""
        return self._places.get(account_id)

    def _put(self, account_id: str, account: BookAccount) -> int:
        """Keep an account; gives its segment."""
        place = self._places.get(account_id)
        if place is not None:
            self._accounts[place[0]][place[1]] = account
            return place[0]
        if not self._accounts or len(self._accounts[-1]) >= SEGMENT_ACCOUNTS:
            self._accounts.append([])
        self._accounts[-1].append(account)
        self._places[account_id] = len(self._accounts) - 1, len(self._accounts[-1]) - 1
        return len(self._accounts) - 1
