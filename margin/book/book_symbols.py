"""The market symbols that the books of accounts rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from margin.rules.ruleset import CollateralRules
from margin.valuation.marks import QUOTE_COIN
from market.accounts.book import Book
from market.core.arrays import Ints
from market.core.errors import DataError
from market.core.instruments import parse_instrument


@dataclass(frozen=True, slots=True)
class BookSymbols:
    """Columns of the market that N books with L positions and B balances depend on.

    Attributes
    ----------
    leg:
        Symbol of each position, of an option that of its underlying, shape (L,).
    balance:
        Symbol of each balance, shape (B,); −1 for cash, and for the coin that prices are in, whose
        price does not move.
    start:
        Offsets into `symbol`, shape (N + 1,).
    symbol:
        Of each book its positions' symbols, then those of its balances that have one.
    order:
        Entries of `symbol` in ``concatenate([leg, balance[balance >= 0]])``.
    """

    leg: Ints
    balance: Ints
    start: Ints
    symbol: Ints
    order: Ints


def book_symbols(book: Book, symbols: Sequence[str], rules: CollateralRules) -> BookSymbols:
    """Find the symbols of books.

    Raises
    ------
    DataError
        An instrument or asset has no bars.
    """
    column = {symbol: i for i, symbol in enumerate(symbols)}

    def instrument_symbol(identifier: str) -> str:
        instrument = parse_instrument(identifier)
        bare = instrument.kind != "option" or instrument.symbol in column
        return instrument.symbol if bare else f"{instrument.symbol}USDT"

    leg = _columns(column, book.leg_instrument, instrument_symbol)
    fixed = {
        asset: rules.is_cash(asset) or (asset == QUOTE_COIN and f"{asset}USDT" not in column)
        for asset in dict.fromkeys(book.balance_asset)
    }
    moving = [b for b, asset in enumerate(book.balance_asset) if not fixed[asset]]
    balance = np.full(len(book.balance_asset), -1, dtype=np.int64)
    balance[moving] = _columns(
        column, [book.balance_asset[b] for b in moving], lambda asset: f"{asset}USDT"
    )
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start))
    keeper = np.repeat(np.arange(len(book)), np.diff(book.balance_start))[moving]
    both = np.concatenate([owner, keeper])
    order = np.argsort(both, kind="stable").astype(np.int64)
    start = np.zeros(len(book) + 1, dtype=np.int64)
    np.cumsum(np.bincount(both, minlength=len(book)), out=start[1:])
    return BookSymbols(leg, balance, start, np.concatenate([leg, balance[moving]])[order], order)


def _columns(column: dict[str, int], names: Sequence[str], symbol: Callable[[str], str]) -> Ints:
    """Market column of each name."""
    columns = {name: column.get(symbol(name)) for name in dict.fromkeys(names)}
    for name, place in columns.items():
        if place is None:
            raise DataError(
                f"{name!r} in the account files has no bars (symbol {symbol(name)}); "
                "add its bars to [market] bars or leave it out"
            )
    return np.array([columns[name] for name in names], dtype=np.int64)
