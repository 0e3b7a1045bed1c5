"""A book valued at its last good prices and, while prices wait for confirmation, at those too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.floors import active_floors
from margin.marks import suspect_view
from margin.requirement import Requirement, compute_requirement
from margin.ruleset import RuleSet
from margin.view import MarketView
from market.book import Book

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BookValuations:
    """The requirement of N accounts under each set of prices.

    Attributes
    ----------
    view:
        The market at the last good prices.
    last_good:
        The requirement there.
    suspect_view:
        The market with every unconfirmed price in the place of the last good one; None where no
        price waits for confirmation.
    suspect:
        The requirement there; None likewise.
    suspect_drives:
        Where the suspect prices give the lower headroom, shape (N,): there they drive equity,
        margins, headroom, floors, cap and deposit. The features of the model stay with the last
        good prices.
    """

    view: MarketView
    last_good: Requirement
    suspect_view: MarketView | None
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

    An account without figures at the suspect prices is driven by the last good ones.
    """
    good = compute_requirement(book, view, ruleset)
    other = suspect_view(view)
    if other is None:
        return BookValuations(view, good, None, None, np.zeros(len(good), dtype=np.bool_))
    suspect = compute_requirement(book, other, ruleset)
    with np.errstate(invalid="ignore"):
        drives = suspect.headroom < good.headroom
    return BookValuations(view, good, other, suspect, drives)


def book_floors(valuations: BookValuations, ruleset: RuleSet) -> Mapping[str, Floats]:
    """Every active rule floor by name, from the valuation that drives each account, (N,) each."""
    good = active_floors(valuations.last_good, valuations.view, ruleset.floors)
    if valuations.suspect is None or valuations.suspect_view is None:
        return good
    suspect = active_floors(valuations.suspect, valuations.suspect_view, ruleset.floors)
    return {name: valuations.driving(floor, suspect[name]) for name, floor in good.items()}
