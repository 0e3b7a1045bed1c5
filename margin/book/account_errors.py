"""What keeps accounts of a book from having figures: one problem each, the first that is found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from market.accounts.book import Book
from market.core.errors import DataError, InstrumentError

Ints = npt.NDArray[np.int64]


class AccountProblems:
    """The first problem of each account of a book, in `found` by its index."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.found: dict[int, DataError] = {}
        for i in np.flatnonzero(~np.isfinite(book.cash)):
            self.of_account(int(i), f"cash is {book.cash[i]}; expected a finite number")

    def of_account(self, i: int, reason: str) -> None:
        """Blame an account as a whole."""
        self._add(i, DataError(f"account {self._book.account_ids[i]!r}: {reason}"))

    def of_entry(self, start: Ints, entry: int, identifier: str, reason: str) -> None:
        """Blame the account that owns an entry of the rows `start`."""
        i = int(np.searchsorted(start, entry, side="right")) - 1
        self.of_instrument(i, identifier, reason)

    def of_instrument(self, i: int, identifier: str | None, reason: str) -> None:
        """Blame an account, naming the instrument or asset; None where there is none to name."""
        if identifier is None:
            self.of_account(i, reason)
            return
        message = f"account {self._book.account_ids[i]!r}: {reason}"
        self._add(i, InstrumentError(message, identifier))

    def of_positions(self, wrong: npt.NDArray[np.bool_], reasons: dict[str, str]) -> None:
        """Blame the owners of positions: for the reason of the instrument, else its numbers."""
        book = self._book
        for leg in np.flatnonzero(wrong):
            name = book.leg_instrument[leg]
            reason = reasons.get(name) or (
                f"{name!r} has quantity {book.leg_quantity[leg]} and entry price "
                f"{book.leg_entry_price[leg]}; expected finite numbers and a price above 0"
            )
            self.of_entry(book.leg_start, int(leg), name, reason)

    def of_balances(self, wrong: npt.NDArray[np.bool_], reasons: dict[str, str]) -> None:
        """Blame the owners of collateral likewise."""
        book = self._book
        for balance in np.flatnonzero(wrong):
            name = book.balance_asset[balance]
            reason = reasons.get(name) or (
                f"collateral {name!r} has amount {book.balance_amount[balance]}; expected a "
                "finite number"
            )
            self.of_entry(book.balance_start, int(balance), name, reason)

    def _add(self, i: int, error: DataError) -> None:
        self.found.setdefault(i, error)


def sound_numbers(book: Book) -> npt.NDArray[np.bool_]:
    """Whether quantity and entry price of each position are possible, shape (L,)."""
    impossible = np.isinf(book.leg_entry_price) | (book.leg_entry_price <= 0)
    return np.isfinite(book.leg_quantity) & ~impossible
