"""Books of accounts along a market path, under the engine of any rule set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from margin.book.account_requirement import Requirement, concatenate_requirements
from margin.book.requirement import compute_requirement
from margin.engines.equity_paths import BookPaths, EquityPaths, Extremes, MarketPath, RowSpans
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Book
from market.core.arrays import Floats, Ints
from market.core.errors import RuleSetError


def book_paths(book: Book, market: MarketPath, ruleset: RuleSet) -> BookPaths:
    """The engine's own paths, else every book margined row by row.

    Parameters
    ----------
    book:
        N books. A position without an entry price has its profit counted from each row's mark:
        give those that are followed one.
    market:
        Marks, and where books are margined row by row the quotes known at each row.
    ruleset:
        Of any engine.

    Raises
    ------
    DataError
        An instrument or asset has no bars.
    """
    special = engine_of(ruleset).book_paths(book, market, ruleset)
    return RequirementPaths(book, market, ruleset) if special is None else special


@dataclass(frozen=True, slots=True)
class RequirementPaths:
    """See `margin.engines.equity_paths.BookPaths`: `compute_requirement` at each row."""

    book: Book
    market: MarketPath
    ruleset: RuleSet

    def equity_paths(self, spans: RowSpans, extremes: Extremes, level: float = 1.0) -> EquityPaths:
        """All books that are held at a row are margined together."""
        if extremes == "bound":
            raise RuleSetError(
                f'[training] extremes = "bound" takes the worst price of each leg within a bar, '
                f"which bounds nothing under rule set {self.ruleset.name!r}, whose margin is that "
                'of the whole book; choose "close" or "finest"'
            )
        start = np.concatenate([[0], np.cumsum(spans.lengths)]).astype(np.int64)
        headroom, margin, lowest = (np.full(int(start[-1]), np.nan) for _ in range(3))
        until = spans.first_row + spans.lengths
        problems: Counter[str] = Counter()
        held_at = np.zeros(spans.rows + 1, dtype=np.int64)
        np.add.at(held_at, spans.first_row, 1)
        np.add.at(held_at, until, -1)
        rows = np.flatnonzero(np.cumsum(held_at[:-1])).astype(np.int64)
        inner: list[Floats] = []
        for step in self.market.steps(rows, fine=extremes == "finest"):
            span = np.flatnonzero((spans.first_row <= step.row) & (step.row < until))
            requirement = self._requirement(spans.index[span], step.view)
            over = requirement.headroom
            if level != 1.0:
                over = requirement.equity - level * requirement.maintenance_margin
            inner.append(over)
            if not step.at_close:
                continue
            at = start[span] + step.row - spans.first_row[span]
            headroom[at] = over
            margin[at] = requirement.maintenance_margin
            lowest[at] = np.min(inner, axis=0)
            inner.clear()
            problems.update(str(problem) for problem in requirement.problems.values())
        return EquityPaths(start, headroom, margin, lowest, problems)

    def figures(self, index: Ints, row: Ints) -> Requirement:
        """Accounts in `Requirement.problems` have NaN figures."""
        order = np.argsort(row, kind="stable").astype(np.int64)
        rows, first = np.unique(row[order], return_index=True)
        parts = [
            self._requirement(index[part], step.view)
            for part, step in zip(np.split(order, first[1:]), self.market.steps(rows), strict=True)
        ]
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return concatenate_requirements(parts).take(place)

    def _requirement(self, index: Ints, view: MarketView) -> Requirement:
        return compute_requirement(self.book.take(index), view, self.ruleset)
