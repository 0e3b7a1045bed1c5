"""The rule pass: requirement and level in force of accounts at the newest prices, without a model.

A pure function of book, market, rules and the levels that are in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from decisions.book_scoring import value_book
from margin.add_on.bounds import add_on_cap
from margin.floors.registry import active_floors, largest_floor
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Book
from market.core.arrays import Bools, Floats, Ints
from market.core.errors import DataError
from monitoring.evaluation.passes.book_cut import BookCut

URGENT_RATIO = 1.5
"""Accounts with less equity than this multiple of their maintenance margin are urgent."""


@dataclass(frozen=True, slots=True)
class RuleColumns:
    """What the rules say about N accounts, settlement currency; NaN for accounts with a problem.

    Attributes
    ----------
    equity, initial_margin, maintenance_margin, headroom:
        Of the valuation that drives each account, see `decisions.book_scoring.BookValuations`,
        shape (N,).
    gross_notional:
        At the last good prices, shape (N,).
    cash:
        In the settlement currency, shape (N,).
    floor:
        Largest rule floor, shape (N,).
    add_on:
        The level in force within floor and cap as they are now, shape (N,); the floor where no
        level was set.
    suspect_drives:
        Whether prices that wait for confirmation drive the account, shape (N,).
    positions:
        Number of positions, shape (N,).
    problems:
        Why an account has no figures, by its index.
    """

    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    headroom: Floats
    gross_notional: Floats
    cash: Floats
    floor: Floats
    add_on: Floats
    suspect_drives: Bools
    positions: Ints
    problems: dict[int, DataError]

    def __len__(self) -> int:
        return len(self.equity)

    def urgent(self) -> Bools:
        """Accounts with equity below `URGENT_RATIO` x maintenance margin, shape (N,)."""
        near: Bools = self.equity < URGENT_RATIO * self.maintenance_margin
        return near

    def distance(self) -> Floats:
        """Headroom over gross notional, shape (N,); infinite without a position."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = self.headroom / self.gross_notional
        return np.where(self.gross_notional > 0.0, share, np.inf)


def evaluate_rules(book: Book, amounts: Floats, view: MarketView, ruleset: RuleSet) -> RuleColumns:
    """Apply the rules to the accounts of a book.

    Parameters
    ----------
    book:
        The accounts.
    amounts:
        The level that the model pass last set for each account, shape (N,); NaN without one.
    view, ruleset:
        Market and rules.

    Raises
    ------
    RuleSetError
        As `margin.book.requirement.compute_requirement`. Problems of accounts are no errors.
    """
    valuations = value_book(book, view, ruleset)
    good = valuations.last_good
    floor = largest_floor(active_floors(good, view, ruleset.floors), good)
    with np.errstate(over="ignore", invalid="ignore"):
        cap = add_on_cap(good.initial_margin, ruleset.add_on)
        highest = np.where(cap < np.inf, np.fmax(floor, cap), floor)
        bounded = np.maximum(floor, np.minimum(amounts, highest))
    column = valuations.column
    return RuleColumns(
        column("equity"),
        column("initial_margin"),
        column("maintenance_margin"),
        column("headroom"),
        good.gross_notional,
        book.cash,
        floor,
        np.where(np.isnan(amounts), floor, bounded),
        valuations.suspect_drives,
        np.diff(book.leg_start),
        dict(good.problems),
    )


def evaluate_book(cut: BookCut, amounts: Floats, view: MarketView, ruleset: RuleSet) -> RuleColumns:
    """The rules for all accounts of a book, segment by segment; see `evaluate_rules`."""
    parts = [
        evaluate_rules(segment.book, amounts[rows], view, ruleset) for segment, rows in cut.slices()
    ]
    return concatenate_rules(parts or [evaluate_rules(Book.of([]), amounts, view, ruleset)])


def concatenate_rules(parts: Sequence[RuleColumns]) -> RuleColumns:
    """The columns of parts of a book as those of the whole; at least one part."""
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(RuleColumns)
        if field.name != "problems"
    }
    first = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    problems = {
        begin + i: problem
        for begin, part in zip(first, parts, strict=False)
        for i, problem in part.problems.items()
    }
    return RuleColumns(**columns, problems=problems)
