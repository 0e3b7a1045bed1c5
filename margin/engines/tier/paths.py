"""Paths of linear books under brackets of notional: one compiled pass over all account-times."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from numba import njit

from margin.book.account_requirement import Collateral, Requirement
from margin.book.book_symbols import BookSymbols, book_symbols
from margin.book.portfolio_batch import row_entries, row_sums
from margin.engines.equity_paths import EquityPaths, Extremes, MarketPath, RowSpans
from margin.engines.tier.rules import TierRules
from margin.engines.tier.tiers import TierTable, bracket_table, tier_margin
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class _LinearBooks(NamedTuple):
    """N books: equity at marks m is ``cash + sum value_quantity * m``, notional
    ``|margin_quantity| * m``. A position counts in both, collateral only in the first.

    `cash` is less what positions cost at entry. Legs are each book's positions, then its
    collateral that is no cash.
    """

    cash: Any
    leg_start: Any
    leg_symbol: Any
    value_quantity: Any
    margin_quantity: Any


class _Brackets(NamedTuple):
    bounds: Any
    rates: Any
    deductions: Any


class _Spans(NamedTuple):
    index: Any
    first_row: Any
    last_row: Any
    start: Any


class _Prices(NamedTuple):
    """`low` and `high` have `steps` rows for each one of `mark`; 0 where they are the marks."""

    mark: Any
    low: Any
    high: Any
    steps: int


def tier_paths(book: Book, market: MarketPath, ruleset: RuleSet) -> TierPaths | None:
    """Paths of books whose margin depends on notional alone.

    None where it does not: sizes in units of the underlying scale it, or collateral counts by its
    amount. `margin.book.book_paths` then margins the books row by row. Of the initial margin these
    paths know the brackets alone, no open interest and no quantum.

    Raises
    ------
    DataError
        An instrument or asset has no bars.
    """
    rules = ruleset.engine_rules(TierRules)
    if rules.scaled_by_size or ruleset.collateral.weights is not UNSET:
        return None
    return TierPaths(book, market, ruleset)


class TierPaths:
    """See `margin.engines.equity_paths.BookPaths`: bars alone price positions."""

    def __init__(self, book: Book, market: MarketPath, ruleset: RuleSet) -> None:
        symbols = market.history.bars.symbols
        self._book, self._market = book, market
        self._table: TierTable = bracket_table(ruleset, symbols)
        self._symbols = book_symbols(book, symbols, ruleset.collateral)
        haircuts = [ruleset.collateral.haircut(asset) for asset in book.balance_asset]
        self._haircut = np.array(haircuts, dtype=np.float64)
        self._linear = _linear_books(book, self._symbols, self._haircut)

    def equity_paths(self, spans: RowSpans, extremes: Extremes, level: float = 1.0) -> EquityPaths:
        """Each leg at its worse price within a bar under "bound": leg by leg that is a bound."""
        history, table = self._market.history, self._table
        low, high, steps = history.mark, history.mark, 0
        if extremes == "bound":
            low, high, steps = history.mark_low, history.mark_high, 1
        elif extremes == "finest":
            low = high = history.fine_mark
            steps = len(low) // len(history.mark)
        start = np.concatenate([[0], np.cumsum(spans.lengths)]).astype(np.int64)
        headroom, margin, lowest = _equity_paths(
            self._linear,
            _Brackets(table.bounds, table.maintenance_rates, table.maintenance_deductions),
            _Spans(spans.index, spans.first_row, spans.last_row, start),
            _Prices(history.mark, low, high, steps),
            level,
        )
        return EquityPaths(start, headroom, margin, lowest, problems={})

    def figures(self, index: Ints, row: Ints) -> Requirement:
        """A missing mark gives NaN figures."""
        history, books, table = self._market.history, self._linear, self._table
        start, legs = row_entries(books.leg_start, index)
        symbol = books.leg_symbol[legs]
        mark = history.mark[np.repeat(row, np.diff(start)), symbol]
        notional = books.margin_quantity[legs] * mark
        maintenance = row_sums(start, table.maintenance(notional, symbol))
        equity = books.cash[index] + row_sums(start, books.value_quantity[legs] * mark)
        leg_start, positions = row_entries(self._book.leg_start, index)
        leg_symbol = self._symbols.leg[positions]
        leg_row = np.repeat(row, np.diff(leg_start))
        leg_notional = self._book.leg_quantity[positions] * history.mark[leg_row, leg_symbol]
        waiting = history.waiting
        return Requirement(
            equity=equity,
            initial_margin=row_sums(start, table.initial(notional, symbol)),
            maintenance_margin=maintenance,
            headroom=equity - maintenance,
            gross_notional=row_sums(leg_start, np.abs(leg_notional)),
            leg_start=leg_start,
            leg_symbol=leg_symbol,
            leg_notional=leg_notional,
            leg_age_hours=self._market.age_hours[leg_row, leg_symbol],
            leg_suspect=(
                np.zeros(len(leg_row), dtype=np.bool_)
                if waiting is None
                else waiting[leg_row, leg_symbol]
            ),
            problems={},
            collateral=self._collateral(index, row),
        )

    def _collateral(self, index: Ints, row: Ints) -> Collateral:
        start, balances = row_entries(self._book.balance_start, index)
        symbol = self._symbols.balance[balances]
        mark = self._market.history.mark[np.repeat(row, np.diff(start)), symbol]
        value = self._book.balance_amount[balances] * np.where(symbol < 0, 1.0, mark)
        return Collateral(start, symbol, value, self._haircut[balances])


def _linear_books(book: Book, symbols: BookSymbols, haircut: Floats) -> _LinearBooks:
    n = len(book)
    owner = np.repeat(np.arange(n), np.diff(book.leg_start))
    keeper = np.repeat(np.arange(n), np.diff(book.balance_start))
    invested = np.bincount(owner, book.leg_quantity * book.leg_entry_price, n)
    # A debt counts in full: a haircut never makes it smaller.
    counted = book.balance_amount * np.where(book.balance_amount > 0.0, 1.0 - haircut, 1.0)
    moving = symbols.balance >= 0
    cash = book.cash + np.bincount(keeper[~moving], counted[~moving], n)
    counted = counted[moving]
    order = symbols.order
    return _LinearBooks(
        cash - invested,
        symbols.start,
        symbols.symbol,
        np.concatenate([book.leg_quantity, counted])[order],
        np.concatenate([book.leg_quantity, np.zeros(len(counted))])[order],
    )


@njit(cache=True, error_model="numpy")
def _at_marks(n, k, low, high, books, brackets, level):  # type: ignore[no-untyped-def]
    """Equity and maintenance margin of book n at step k, each leg at its worse price for equity
    less `level` times the margin."""
    equity, margin = books.cash[n], 0.0
    for leg in range(books.leg_start[n], books.leg_start[n + 1]):
        s = books.leg_symbol[leg]
        worst_equity, worst_margin, worst = 0.0, 0.0, np.inf
        for price in (low[k, s], high[k, s]):
            value = books.value_quantity[leg] * price
            need = tier_margin(
                abs(books.margin_quantity[leg]) * price,
                brackets.bounds[s],
                brackets.rates[s],
                brackets.deductions[s],
            )
            over = value - level * need
            if not over >= worst:
                worst_equity, worst_margin, worst = value, need, over
            if low[k, s] == high[k, s]:
                break
        equity += worst_equity
        margin += worst_margin
    return equity, margin


@njit(cache=True, error_model="numpy", nogil=True)
def _equity_paths(books, brackets, spans, prices, level):  # type: ignore[no-untyped-def]
    size = spans.start[-1]
    headroom, margin, lowest = np.empty(size), np.empty(size), np.empty(size)
    for i in range(len(spans.index)):
        n = spans.index[i]
        for at in range(spans.start[i], spans.start[i + 1]):
            k = spans.first_row[i] + at - spans.start[i]
            equity, need = _at_marks(n, k, prices.mark, prices.mark, books, brackets, level)
            headroom[at], margin[at] = equity - level * need, need
            # At its end the book may have been replaced: the steps before decide.
            worst = headroom[at] if k < spans.last_row[i] else np.inf
            if at > spans.start[i]:
                if prices.steps == 0:
                    worst = headroom[at]
                for j in range(k * prices.steps, (k + 1) * prices.steps):
                    equity, need = _at_marks(n, j, prices.low, prices.high, books, brackets, level)
                    value = equity - level * need
                    if np.isnan(value) or np.isnan(worst):
                        worst = np.nan
                    elif value < worst:
                        worst = value
            lowest[at] = worst
    return headroom, margin, lowest
