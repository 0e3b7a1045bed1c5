"""Accounts of files over time, without the positions that a replay has closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
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


class AccountReplay:
    """The accounts alive at one time.

    A snapshot of the files is the venue's word: it replaces all that a replay did to the account. A
    position without an entry price has its entry at the first mark known from its snapshot on.

    Parameters
    ----------
    history:
        The account files.
    """

    def __init__(self, history: AccountHistory) -> None:
        self._history = history
        self._row_of = {name: row for row, name in enumerate(history.account_ids)}
        self._segment = np.full(len(history.account_ids), _ABSENT, dtype=np.int64)
        self._account_of: dict[int, Account] = {}
        self._unpriced: set[int] = set()
        self._book: Book | None = None
        self._rows: Ints = np.zeros(0, dtype=np.int64)

    def at(self, view: MarketView) -> tuple[Book, Ints]:
        """The book at a time, and each account's index in the ids of the files."""
        self._renew(view.as_of)
        self._enter(view)
        if self._book is None:
            self._rows = np.array(sorted(self._account_of), dtype=np.int64)
            self._book = Book.of([self._account_of[row] for row in self._rows.tolist()])
        return self._book, self._rows

    def account(self, row: int) -> Account:
        """One account by its index in the ids of the files."""
        return self._account_of[row]

    def replace(self, row: int, account: Account) -> None:
        """Replace an account until its next snapshot."""
        self._account_of[row] = account
        self._book = None

    def remove(self, rows: Iterable[int]) -> None:
        """Close accounts for good, whatever later snapshots say."""
        for row in rows:
            if self._account_of.pop(row, None) is not None:
                self._book = None
            self._segment[row] = _CLOSED
            self._unpriced.discard(row)

    def row(self, account_id: str) -> int:
        """Index of an account in the ids of the files."""
        return self._row_of[account_id]

    def to_content(self) -> dict[str, Any]:
        """What the replay knows beyond the files, as plain JSON values."""
        alive = sorted(self._account_of)
        of_files = dict(zip(alive, self._of_files(alive), strict=True))
        return {
            "segments": self._segment.tolist(),
            "unpriced": sorted(self._unpriced),
            "accounts": {
                str(row): msgspec.to_builtins(account)
                for row, account in sorted(self._account_of.items())
                if account != of_files[row]
            },
        }

    @classmethod
    def of_content(cls, history: AccountHistory, content: Mapping[str, Any]) -> AccountReplay:
        """The replay that `to_content` wrote, over the same files."""
        replay = cls(history)
        replay._segment = np.array(content["segments"], dtype=np.int64)
        alive = np.flatnonzero(replay._segment >= 0).tolist()
        replay._account_of = dict(zip(alive, replay._of_files(alive), strict=True))
        replay._account_of |= {
            int(row): msgspec.convert(account, Account)
            for row, account in content["accounts"].items()
        }
        replay._unpriced = set(content["unpriced"])
        return replay

    def _of_files(self, rows: Sequence[int]) -> tuple[Account, ...]:
        segments: Ints = self._segment[np.array(rows, dtype=np.int64)]
        return self._history.book_of(segments).accounts()

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
            self._account_of.pop(row, None)
            self._unpriced.discard(row)
        fresh = changed[now[changed] >= 0]
        for row, account in zip(
            fresh.tolist(), self._history.book_of(now[fresh]).accounts(), strict=True
        ):
            self._account_of[row] = account
            self._unpriced.add(row)

    def _enter(self, view: MarketView) -> None:
        """Enter positions without an entry price at the mark of this time, where there is one."""
        marks = MarketMarks(view) if self._unpriced else None
        for row in sorted(self._unpriced):
            account = self._account_of[row]
            positions = tuple(
                replace(position, entry_price=_mark(position.instrument, marks))
                if position.entry_price is None and marks is not None
                else position
                for position in account.positions
            )
            if positions != account.positions:
                self.replace(row, replace(account, positions=positions))
            if not any(_needs_mark(position) for position in positions):
                self._unpriced.discard(row)


def _needs_mark(position: Position) -> bool:
    """Whether a later mark gives the entry price: options count at their value, without one."""
    if position.entry_price is not None:
        return False
    try:
        return parse_instrument(position.instrument).kind != "option"
    except InstrumentError:
        return False  # no mark will ever be known of it


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
