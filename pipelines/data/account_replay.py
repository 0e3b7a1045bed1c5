"""Accounts of files over time, less what a replay has closed of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from margin.valuation.marks import MarketMarks
from margin.valuation.view import MarketView
from market.accounts.account_files import AccountHistory
from market.accounts.book import Account, Book, Position
from market.core.errors import InstrumentError
from market.core.instruments import parse_instrument

Ints = npt.NDArray[np.int64]

_ABSENT, _CLOSED = -1, -2
"""In place of a segment: not in the files at this time, and closed by the replay."""


class HeldAccounts:
    """The accounts alive at one time.

    A snapshot of the files is what the venue says and replaces what a replay had done to the
    account. A position without an entry price has its entry at the first mark that is known once
    it is held.

    Parameters
    ----------
    history:
        The account files.
    """

    def __init__(self, history: AccountHistory) -> None:
        self._history = history
        self._segment = np.full(len(history.account_ids), _ABSENT, dtype=np.int64)
        self._held: dict[int, Account] = {}
        self._unpriced: set[int] = set()
        self._book: Book | None = None
        self._rows: Ints = np.zeros(0, dtype=np.int64)

    def at(self, view: MarketView) -> tuple[Book, Ints]:
        """The book at a time, and each account's index in the ids of the files."""
        self._renew(view.as_of)
        self._enter(view)
        if self._book is None:
            self._rows = np.array(sorted(self._held), dtype=np.int64)
            self._book = Book.of([self._held[row] for row in self._rows.tolist()])
        return self._book, self._rows

    def account(self, row: int) -> Account:
        """One account by its index in the ids of the files."""
        return self._held[row]

    def replace(self, row: int, account: Account) -> None:
        """Let an account hold something else until its next snapshot."""
        self._held[row] = account
        self._book = None

    def remove(self, rows: Iterable[int]) -> None:
        """Accounts that are closed for good, whatever later snapshots say."""
        for row in rows:
            if self._held.pop(row, None) is not None:
                self._book = None
            self._segment[row] = _CLOSED
            self._unpriced.discard(row)

    def _renew(self, time: int) -> None:
        segments = self._history.segments
        alive = np.flatnonzero((segments.begin <= time) & (time < segments.end))
        closed = self._segment == _CLOSED
        now = np.full(len(closed), _ABSENT, dtype=np.int64)
        now[segments.account[alive]] = alive
        now[closed] = _CLOSED
        changed = np.flatnonzero(now != self._segment)
        if not len(changed):
            return
        self._segment, self._book = now, None
        for row in changed[now[changed] == _ABSENT].tolist():
            self._held.pop(row, None)
            self._unpriced.discard(row)
        fresh = changed[now[changed] >= 0]
        for row, account in zip(
            fresh.tolist(), self._history.book_of(now[fresh]).accounts(), strict=True
        ):
            self._held[row] = account
            self._unpriced.add(row)

    def _enter(self, view: MarketView) -> None:
        """Give positions without an entry price that of this moment, where there is a mark."""
        marks = MarketMarks(view) if self._unpriced else None
        for row in sorted(self._unpriced):
            account = self._held[row]
            positions = tuple(
                replace(one, entry_price=_mark(one.instrument, marks))
                if one.entry_price is None and marks is not None
                else one
                for one in account.positions
            )
            if positions != account.positions:
                self.replace(row, replace(account, positions=positions))
            if all(_entered(one) for one in positions):
                self._unpriced.discard(row)


def _entered(position: Position) -> bool:
    """Whether nothing is wanted of later marks: options count at their value, without an entry."""
    if position.entry_price is not None:
        return True
    try:
        return parse_instrument(position.instrument).kind == "option"
    except InstrumentError:
        return True  # no mark will ever be known of it


def _mark(name: str, marks: MarketMarks) -> float | None:
    try:
        instrument = parse_instrument(name)
    except InstrumentError:
        return None  # the requirement names it as the account's problem
    perpetual = instrument.kind == "perpetual"
    row, reason = marks.find_price(name, instrument.symbol, perpetual=perpetual)
    if instrument.kind == "option" or reason:
        return None
    return float((marks.perpetual if perpetual else marks.spot).price[row])
