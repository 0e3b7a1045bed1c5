"""Pieces of account life during which the book does not change.

A segment is one book over a range of decision times. Sampled lives are one segment each; recorded
accounts give one segment a snapshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.rules.ruleset import RuleSet
from margin.valuation.marks import QUOTE_COIN
from market.accounts.account_files import AccountHistory
from market.accounts.book import Book
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from market.simulator.population import SampledAccounts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BookIntervals:
    """N segments of A accounts, in order of account and time.

    Equity at marks m is ``cash + sum value_quantity * m``, notional ``|margin_quantity| * m``: a
    position counts in both (its entry is in `cash`), collateral only in the first.

    Attributes
    ----------
    account:
        Index into `account_ids`, shape (N,).
    account_ids:
        Length A.
    account_key:
        A 64-bit hash of each account, by which rows are chosen; uint64, shape (A,).
    first_row, last_row:
        Decision rows during which the book is held: ``first_row <= row < last_row``.
    cash:
        Settlement currency, shape (N,).
    leg_start:
        Offsets into the legs, shape (N + 1,).
    leg_symbol, leg_value_quantity, leg_margin_quantity:
        Shape (L,).
    """

    account: Ints
    account_ids: tuple[str, ...]
    account_key: npt.NDArray[np.uint64]
    first_row: Ints
    last_row: Ints
    cash: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_value_quantity: Floats
    leg_margin_quantity: Floats

    def __len__(self) -> int:
        return len(self.account)


def from_lives(lives: SampledAccounts) -> BookIntervals:
    """Segments of sampled lives: one each."""
    counts = np.diff(lives.leg_start)
    owner = np.repeat(np.arange(len(counts)), counts)
    invested = np.zeros(len(counts))
    np.add.at(invested, owner, lives.leg_quantity * lives.leg_entry_price)
    ids = tuple(lives.account_id(i) for i in range(len(counts)))
    return BookIntervals(
        account=np.arange(len(counts), dtype=np.int64),
        account_ids=ids,
        account_key=account_keys(ids),
        first_row=lives.opening_row,
        last_row=lives.end_row,
        cash=lives.cash - invested,
        leg_start=lives.leg_start,
        leg_symbol=lives.leg_symbol,
        leg_value_quantity=lives.leg_quantity,
        leg_margin_quantity=lives.leg_quantity,
    )


def from_history(
    history: AccountHistory,
    decision_times: Ints,
    symbols: tuple[str, ...],
    mark: Floats,
    ruleset: RuleSet,
) -> BookIntervals:
    """Segments of recorded accounts: from each snapshot to the next.

    A position without an entry price entered at the mark of its snapshot's decision time.

    Raises
    ------
    DataError
        An instrument or asset has no bars, or is nothing the rule set knows.
    """
    spans = history.segments
    first = np.searchsorted(decision_times, spans.begin)
    last = np.searchsorted(decision_times, spans.end)
    seen = np.flatnonzero(first < last)  # the rest is replaced before the next decision
    first, last = first[seen], last[seen]
    book = history.book_of(seen)
    return from_book(
        book, spans.account[seen], history.account_ids, first, last, symbols, mark, ruleset
    )


def from_book(
    book: Book,
    account: Ints,
    account_ids: tuple[str, ...],
    first: Ints,
    last: Ints,
    symbols: tuple[str, ...],
    mark: Floats,
    ruleset: RuleSet,
) -> BookIntervals:
    """One segment an entry of a book, in order of account and time.

    Parameters
    ----------
    book:
        N books.
    account, account_ids:
        Whose each is, shape (N,), and all accounts.
    first, last:
        Decision rows during which each is held, shape (N,).
    symbols, mark:
        The market's columns, and marks of shape (T, S). A position without an entry price entered
        at the mark of its first row.
    ruleset:
        Says what is cash, and gives the haircuts of the rest.

    Raises
    ------
    DataError
        An instrument or asset has no bars, or is nothing the rule set knows.
    """
    column = {symbol: i for i, symbol in enumerate(symbols)}

    leg_symbol = _columns(column, book.leg_instrument, _instrument_symbol)
    entry = book.leg_entry_price.copy()
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start))
    without = np.isnan(entry)
    entry[without] = mark[first[owner[without]], leg_symbol[without]]
    invested = np.bincount(owner, weights=book.leg_quantity * entry, minlength=len(book))

    keeper = np.repeat(np.arange(len(book)), np.diff(book.balance_start))
    rules, assets = ruleset.collateral, book.balance_asset
    # A debt counts in full: a haircut never makes it smaller.
    rates = 1.0 - np.array([rules.haircut(asset) for asset in assets], dtype=np.float64)
    counted = book.balance_amount * np.where(book.balance_amount > 0.0, rates, 1.0)
    # Cash has no price that moves, nor has the coin that prices are in.
    fixed = np.array(
        [
            rules.is_cash(asset) or (asset == QUOTE_COIN and f"{asset}USDT" not in column)
            for asset in assets
        ],
        dtype=np.bool_,
    )
    cash = book.cash + np.bincount(keeper[fixed], weights=counted[fixed], minlength=len(book))
    coins = np.flatnonzero(~fixed)
    keeper, counted = keeper[coins], counted[coins]
    balance_symbol = _columns(
        column, [assets[b] for b in coins.tolist()], lambda asset: f"{asset}USDT"
    )

    order = np.argsort(np.r_[owner, keeper], kind="stable")
    start = np.zeros(len(book) + 1, dtype=np.int64)
    np.cumsum(np.diff(book.leg_start) + np.bincount(keeper, minlength=len(book)), out=start[1:])
    return BookIntervals(
        account=account,
        account_ids=account_ids,
        account_key=account_keys(account_ids),
        first_row=first,
        last_row=last,
        cash=cash - invested,
        leg_start=start,
        leg_symbol=np.r_[leg_symbol, balance_symbol][order],
        leg_value_quantity=np.r_[book.leg_quantity, counted][order],
        leg_margin_quantity=np.r_[book.leg_quantity, np.zeros(len(counted))][order],
    )


def account_keys(ids: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """First eight bytes of the SHA-256 of each account id."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _instrument_symbol(identifier: str) -> str:
    instrument = parse_instrument(identifier)
    if instrument.kind == "option":
        raise DataError(
            f"{identifier!r} in the account files is an option; only spot and perpetuals have bars"
        )
    return instrument.symbol


def _columns(column: dict[str, int], names: Sequence[str], symbol: Callable[[str], str]) -> Ints:
    """Market column of each name."""
    found = {name: column.get(symbol(name)) for name in dict.fromkeys(names)}
    for name, place in found.items():
        if place is None:
            raise DataError(
                f"{name!r} in the account files has no bars (symbol {symbol(name)}); "
                "add its bars to [market] bars or leave it out"
            )
    return np.array([found[name] for name in names], dtype=np.int64)
