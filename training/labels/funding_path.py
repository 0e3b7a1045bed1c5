"""Funding along the paths of books: perpetuals pay notional times rate at each funding time.

A long pays a positive rate and a short receives it, at the mark of the close by which the rate
became known. A book pays from the first row at which it is held on; what came before is in its
cash. A payment counts for the whole bar that it falls into. Spot, options and collateral pay none,
and no rule set has fees on held positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from margin.book.account_requirement import Requirement
from margin.engines.equity_paths import BookPaths, EquityPaths, Extremes, RowSpans
from market.bars.history import MarketHistory
from market.bars.panel import FUNDING
from market.core.arrays import Floats, Ints
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from training.labels.book_intervals import BookIntervals
from training.labels.sampling import positions

LONGEST_HOURS = 24.0
"""A rate counts for the hours since the symbol's last one, at most so many."""


def paid_funding(history: MarketHistory) -> Floats:
    """What a long perpetual of one coin has paid up to each row, settlement currency, (T, S).

    ``sum over funding rows k of rate_k * hours_k * mark_k``: rates are those an hour of the panel,
    and hours those since the symbol's last rate (of its first: until its second).

    Raises
    ------
    DataError
        The market has no funding rates.
    """
    context = history.bars.exogenous
    if context is None or np.isnan(context[:, :, FUNDING]).all():
        raise DataError(
            "[training] funding is true and the market has no funding rates; give [market] "
            "funding, or leave it out"
        )
    bar_hours = 1.0 / history.bars.interval.per_hour
    paid: Floats = np.zeros_like(history.mark)
    for s in range(len(history.bars.symbols)):
        rows = np.flatnonzero(~np.isnan(context[:, s, FUNDING]))
        if len(rows) < 2:
            continue
        apart = np.diff(rows)
        hours = np.minimum(np.concatenate([apart[:1], apart]) * bar_hours, LONGEST_HOURS)
        # A rate without a mark is paid by nobody: the book has no value there either.
        payment = context[rows, s, FUNDING] * hours * history.mark[rows, s]
        paid[rows, s] = np.nan_to_num(payment)
    return np.cumsum(paid, axis=0)


@dataclass(frozen=True, slots=True)
class FundedPaths:
    """Paths of books, less the funding that they paid. See `margin.engines.equity_paths.BookPaths`.

    Attributes
    ----------
    paths:
        Without funding.
    intervals:
        Whose books they are.
    paid:
        See `paid_funding`.
    """

    paths: BookPaths
    intervals: BookIntervals
    paid: Floats

    def equity_paths(self, spans: RowSpans, extremes: Extremes, level: float = 1.0) -> EquityPaths:
        """Headrooms fall by what each book has paid since its span began."""
        found = self.paths.equity_paths(spans, extremes, level)
        book = self.intervals.book
        pays = {
            name: parse_instrument(name).kind == "perpetual"
            for name in dict.fromkeys(book.leg_instrument)
        }
        perpetual = np.array([pays[name] for name in book.leg_instrument], dtype=np.bool_)
        paid = _paid_along(
            spans.index,
            spans.first_row,
            found.start,
            book.leg_start,
            positions(self.intervals),
            np.where(perpetual, book.leg_quantity, 0.0),
            self.paid,
        )
        return replace(
            found, headroom=found.headroom - paid, lowest_headroom=found.lowest_headroom - paid
        )

    def figures(self, index: Ints, row: Ints) -> Requirement:
        """Those without funding; equity and headroom are not of the path."""
        return self.paths.figures(index, row)


@njit(cache=True, error_model="numpy")
def _paid_along(index, first_row, start, leg_start, symbol, quantity, paid):  # type: ignore[no-untyped-def]
    """What each book has paid since its span began, at every row of its path."""
    out = np.empty(start[-1])
    for i in range(len(index)):
        n = index[i]
        for at in range(start[i], start[i + 1]):
            k = first_row[i] + at - start[i]
            total = 0.0
            for leg in range(leg_start[n], leg_start[n + 1]):
                s = symbol[leg]
                if quantity[leg] != 0.0:
                    total += quantity[leg] * (paid[k, s] - paid[first_row[i], s])
            out[at] = total
    return out
