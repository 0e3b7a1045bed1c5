"""A book valued at its last good prices and, while prices wait for confirmation, at those too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from margin.book.requirement import Requirement, compute_requirement
from margin.rules.ruleset import RuleSet
from margin.valuation.marks import suspect_view
from margin.valuation.view import MarketView
from market.accounts.book import Book

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BookValuations:
    """The requirement of N accounts under each set of prices.

    Attributes
    ----------
    last_good:
        The requirement at the last good prices.
    suspect:
        The requirement with every unconfirmed price in the place of the last good one; None where
        no price waits for confirmation.
    suspect_drives:
        Where the suspect prices give the lower headroom, shape (N,): there they drive equity,
        margins, headroom and deposit. Floors, cap and pace of the add-on and the features of the
        model stay with the last good prices: one bad tick must not move them.
    """

    last_good: Requirement
    suspect: Requirement | None
    suspect_drives: Bools

    def of_account(self, i: int) -> Requirement:
        """The requirement that drives account i."""
        if self.suspect is not None and self.suspect_drives[i]:
            return self.suspect
        return self.last_good

    def column(self, name: str) -> Floats:
        """A figure of `Requirement` of each account from the valuation that drives it, (N,)."""
        good: Floats = getattr(self.last_good, name)
        if self.suspect is None:
            return good
        return self.driving(good, getattr(self.suspect, name))

    def driving(self, good: Floats, suspect: Floats) -> Floats:
        """Of two figures of each account the one that drives it, shape (N,)."""
        return np.where(self.suspect_drives, suspect, good)


def value_book(book: Book, view: MarketView, ruleset: RuleSet) -> BookValuations:
    """Value a book at the last good prices and, where prices wait for confirmation, at those.

    A position without an entry price entered at the last good mark, in both. An account without
    figures at the suspect prices is driven by the last good ones.
    """
    good = compute_requirement(book, view, ruleset)
    other = suspect_view(view)
    if other is None:
        return BookValuations(good, None, np.zeros(len(good), dtype=np.bool_))
    suspect = compute_requirement(_entered(book, good), other, ruleset)
    with np.errstate(invalid="ignore"):
        drives = suspect.headroom < good.headroom
    return BookValuations(good, suspect, drives)


def _entered(book: Book, good: Requirement) -> Book:
    """The book with the last good marks where entry prices are missing."""
    entries = good.portfolios.entries
    price = entries.instruments.price[entries.position_row]
    entry = np.where(np.isnan(book.leg_entry_price), price, book.leg_entry_price)
    return replace(book, leg_entry_price=entry)
