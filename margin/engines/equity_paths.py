"""Books along market paths: what an engine says of account-times, from which labels are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from margin.book.account_requirement import Requirement
from margin.valuation.view import MarketView
from market.bars.history import MarketHistory

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Extremes = Literal["close", "bound", "finest"]
"""Which prices within a bar count: its close, the worst of each leg all at once (an upper bound of
the loss), or the closes of the finest bars."""


class MarketStep(NamedTuple):
    """The market at one time: within the bar that ends at `row`, or at its close."""

    row: int
    at_close: bool
    view: MarketView


class MarketPath(Protocol):
    """A market over T rows.

    Attributes
    ----------
    history:
        Marks.
    age_hours:
        Age of each symbol's newest bar at each row, shape (T, S); NaN without one.
    """

    @property
    def history(self) -> MarketHistory: ...

    @property
    def age_hours(self) -> Floats: ...

    def steps(self, rows: Ints, *, fine: bool = False) -> Iterator[MarketStep]:
        """The market at rising rows; with `fine` also at each close of the finest bars before
        a row's own within its bar."""
        ...


@dataclass(frozen=True, slots=True)
class RowSpans:
    """K spans of rows, each of one book.

    Attributes
    ----------
    index:
        Which book, shape (K,).
    first_row, last_row:
        It is held at ``first_row <= row < last_row``, shape (K,).
    rows:
        T, the number of market rows.
    """

    index: Ints
    first_row: Ints
    last_row: Ints
    rows: int

    @property
    def lengths(self) -> Ints:
        """Rows of each span's path: those at which it is held, and that at whose close it ends
        where the market has one; shape (K,)."""
        through: Ints = np.minimum(self.last_row, self.rows - 1) - self.first_row + 1
        return np.where(self.last_row > self.first_row, through, 0)


@dataclass(frozen=True, slots=True)
class EquityPaths:
    """Figures of K spans, settlement currency, headrooms over the level asked for.

    Those of span k at row r are in ``start[k] + r - first_row[k]``.

    Attributes
    ----------
    start:
        Offsets, shape (K + 1,), see `RowSpans.lengths`.
    headroom, maintenance_margin:
        At the close of each row, shape (R,); NaN where a book cannot be valued.
    lowest_headroom:
        Lowest headroom within the bar that ends at each row, shape (R,); of a span's first row it
        means nothing. NaN where any headroom within the bar is.
    problems:
        Why books could not be valued: account-times by reason.
    """

    start: Ints
    headroom: Floats
    maintenance_margin: Floats
    lowest_headroom: Floats
    problems: Mapping[str, int]


class BookPaths(Protocol):
    """N books along one market path under one rule set."""

    def equity_paths(self, spans: RowSpans, extremes: Extremes, level: float = 1.0) -> EquityPaths:
        """Equity less `level` times the maintenance margin along spans of rows.

        Raises
        ------
        RuleSetError
            The engine cannot bound what happens within a bar (`extremes` = "bound").
        """
        ...

    def figures(self, index: Ints, row: Ints) -> Requirement:
        """Figures of N account-times: book `index` at market row `row`, shape (N,) each."""
        ...
