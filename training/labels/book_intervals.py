"""Intervals of account life during which the book does not change.

Sampled accounts are one interval each; recorded accounts give one interval a snapshot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from margin.book.book_symbols import book_symbols
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet
from market.accounts.account_files import AccountHistory
from market.accounts.book import Book
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from market.simulator.population import SampledAccounts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BookIntervals:
    """N intervals of A accounts, in order of account and time.

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
    book:
        The N books. Positions other than options have an entry price.
    symbol_start, symbol:
        Market columns that each book rests on, in compressed sparse rows: offsets (N + 1,) and
        those of its positions, then of its collateral that is no cash.
    """

    account: Ints
    account_ids: tuple[str, ...]
    account_key: npt.NDArray[np.uint64]
    first_row: Ints
    last_row: Ints
    book: Book
    symbol_start: Ints
    symbol: Ints

    def __len__(self) -> int:
        return len(self.account)

    def first_option(self) -> str | None:
        """An option that some book holds; None where none does."""
        names = dict.fromkeys(self.book.leg_instrument)
        return next((name for name in names if parse_instrument(name).kind == "option"), None)


def from_sampled_accounts(accounts: SampledAccounts, symbols: tuple[str, ...]) -> BookIntervals:
    """Intervals of sampled accounts over the market's columns: one each."""
    count = len(accounts)
    book = accounts.book_of(np.arange(count), symbols)
    return BookIntervals(
        account=np.arange(count, dtype=np.int64),
        account_ids=book.account_ids,
        account_key=account_keys(book.account_ids),
        first_row=accounts.opening_row,
        last_row=accounts.end_row,
        book=book,
        symbol_start=accounts.leg_start,
        symbol=accounts.leg_symbol,
    )


def from_history(
    history: AccountHistory,
    decision_times: Ints,
    symbols: tuple[str, ...],
    mark: Floats,
    ruleset: RuleSet,
) -> BookIntervals:
    """Intervals of recorded accounts: from each snapshot to the next.

    Raises
    ------
    DataError
        As `from_book`.
    """
    spans = history.segments
    first = np.searchsorted(decision_times, spans.begin)
    last = np.searchsorted(decision_times, spans.end)
    decided = np.flatnonzero(first < last)  # the rest is replaced before the next decision
    return from_book(
        history.book_of(decided),
        spans.account[decided],
        history.account_ids,
        first[decided],
        last[decided],
        symbols,
        mark,
        ruleset,
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
    """One interval an entry of a book, in order of account and time.

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
        at the mark of its first row; an option counts at its value and needs none.
    ruleset:
        Says what is cash and whether options are margined.

    Raises
    ------
    DataError
        An instrument or asset has no bars, or is an option that the rule set does not margin.
    """
    found = book_symbols(book, symbols, ruleset.collateral)
    kinds = {name: parse_instrument(name).kind for name in dict.fromkeys(book.leg_instrument)}
    options = [name for name, kind in kinds.items() if kind == "option"]
    if options and not engine_of(ruleset).margins_options:
        raise DataError(
            f"{options[0]!r} in the account files is an option, and rule set {ruleset.name!r} "
            "margins spot and perpetuals only; leave it out, or choose rules that margin options, "
            "such as derive-pmrm2"
        )
    entry = book.leg_entry_price.copy()
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start))
    linear = np.array([kinds[name] != "option" for name in book.leg_instrument], dtype=np.bool_)
    without = np.isnan(entry) & linear
    entry[without] = mark[first[owner[without]], found.leg[without]]
    return BookIntervals(
        account=account,
        account_ids=account_ids,
        account_key=account_keys(account_ids),
        first_row=first,
        last_row=last,
        book=replace(book, leg_entry_price=entry),
        symbol_start=found.start,
        symbol=found.symbol,
    )


def account_keys(ids: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """First eight bytes of the SHA-256 of each account id."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
