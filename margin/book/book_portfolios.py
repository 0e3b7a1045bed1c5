"""Accounts of one market as portfolios: what every engine margins, made from a whole book."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numba import njit

from margin.book.portfolio_batch import (
    OPTION,
    BookEntries,
    CollateralBalances,
    Portfolios,
)
from margin.rules.ruleset import CollateralRules
from margin.valuation.collateral import price_collateral
from margin.valuation.instrument_table import price_instruments
from margin.valuation.marks import POST_IT
from margin.valuation.view import MarketView
from market.accounts.book import Book
from market.bars.daily_closes import DailyCloses
from market.core.arrays import Bools, Ints
from market.core.errors import DataError, InstrumentError


class AccountErrors:
    """The first error of each account of a book, in `first` by its index."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.first: dict[int, DataError] = {}
        for i in np.flatnonzero(~np.isfinite(book.cash)).tolist():
            self.add(i, f"cash is {book.cash[i]}; expected a finite number")

    def add(self, i: int, reason: str, instrument: str | None = None) -> None:
        """Add an error of account i; it names the instrument or asset at fault, if there is one."""
        message = f"account {self._book.account_ids[i]!r}: {reason}"
        error = DataError(message) if instrument is None else InstrumentError(message, instrument)
        self.first.setdefault(i, error)

    def add_positions(self, invalid: Bools, reasons: Mapping[str, str]) -> None:
        """Add an error for each invalid position: that of its instrument, else of its numbers."""
        book = self._book
        for leg in np.flatnonzero(invalid).tolist():
            name = book.leg_instrument[leg]
            reason = reasons.get(name) or (
                f"{name!r} has quantity {book.leg_quantity[leg]} and entry price "
                f"{book.leg_entry_price[leg]}; expected finite numbers and a price above 0"
            )
            self.add(_owner(book.leg_start, leg), reason, name)

    def add_balances(self, invalid: Bools, reasons: Mapping[str, str]) -> None:
        """Add an error for each invalid balance likewise."""
        book = self._book
        for balance in np.flatnonzero(invalid).tolist():
            name = book.balance_asset[balance]
            reason = reasons.get(name) or (
                f"collateral {name!r} has amount {book.balance_amount[balance]}; expected a "
                "finite number"
            )
            self.add(_owner(book.balance_start, balance), reason, name)


def _owner(start: Ints, entry: int) -> int:
    return int(np.searchsorted(start, entry, side="right")) - 1


def book_portfolios(
    book: Book,
    view: MarketView,
    rules: CollateralRules,
    errors: AccountErrors | None = None,
    *,
    options: bool = True,
) -> Portfolios:
    """The portfolios of a book, one an account, all on the same underlyings and expiries.

    Positions of an account in the same instrument are netted and stand in the canonical order of
    `Portfolios`. Spot, perps and options are priced as `margin.valuation.instrument_table` says,
    collateral as `margin.valuation.collateral` says; a missing entry price means entry at the
    price. The settlement currency's coin is worth what is quoted of the first cash asset that is,
    however long ago, else 1. Without `options` an option is an error of its account.

    Errors are per account, in ``entries.problems``: an unknown, unquoted or expired instrument or
    an asset without a price (`InstrumentError`, naming it), a number that is not finite
    (`DataError`). Such accounts, and those in the given `errors`, have an empty portfolio.
    """
    errors = AccountErrors(book) if errors is None else errors
    assets = [asset for asset in dict.fromkeys(book.balance_asset) if not rules.is_cash(asset)]
    names, held = book.held
    instruments = price_instruments(names, assets, view, options=options)
    row = np.array([instruments.row[name] for name in names], dtype=np.int64)[held]
    legs = len(row)
    impossible = np.isinf(book.leg_entry_price) | (book.leg_entry_price <= 0)
    valued = instruments.valued[row] & (np.isfinite(book.leg_quantity) & ~impossible)
    errors.add_positions(~valued, instruments.errors)
    quotes = {} if view.quotes is None else view.quotes.instruments
    balances, balance_symbol, reasons = price_collateral(book, instruments, row, quotes, rules)
    errors.add_balances(~balances.valued(), reasons)
    stable = _stable_price(view, rules)
    if not 0.0 < stable < math.inf:
        for i in range(len(book)):
            errors.add(i, f"the settlement currency's coin is quoted at {stable}; {POST_IT}")

    entry, price = book.leg_entry_price, instruments.price[row]
    with np.errstate(over="ignore", invalid="ignore"):  # found with the figures
        unrealised = book.leg_quantity * (price - np.where(np.isnan(entry), price, entry))
    entries = BookEntries(
        problems=errors.first,
        instruments=instruments,
        position_row=row,
        position_leg=np.full(legs, -1, dtype=np.int64),
        position_symbol=np.where(valued, instruments.symbol[row], -1),
        unrealised=np.where(instruments.kind[row] == OPTION, 0.0, unrealised),
        balances=balances,
        balance_symbol=balance_symbol,
    )
    sound = np.ones(len(book), dtype=np.bool_)
    sound[list(errors.first)] = False
    return _net_positions(book, entries, sound, stable, view.daily)


def _net_positions(
    book: Book, entries: BookEntries, sound: Bools, stable: float, history: DailyCloses | None
) -> Portfolios:
    """Positions of each sound account, one leg an instrument; fills ``entries.position_leg``."""
    n = len(book)
    instruments, row = entries.instruments, entries.position_row
    lines = (book.leg_quantity, entries.unrealised)
    start, line, quantity, unrealised = _net_lines(
        book.leg_start, sound, instruments.rank[row], lines, entries.position_leg
    )
    leg = row[line]
    names = np.array(list(instruments.row), dtype=np.object_)
    position_leg = entries.position_leg
    return Portfolios(
        cash=np.where(sound, book.cash, 0.0),
        stable_price=np.full(n, stable),
        start=start,
        name=tuple(names[leg].tolist()),
        kind=instruments.kind[leg],
        underlying=instruments.underlying[leg],
        expiry=instruments.expiry[leg],
        quantity=quantity,
        strike=instruments.strike[leg],
        vol=instruments.vol[leg],
        call=instruments.call[leg],
        unrealised=unrealised,
        position_leg=position_leg[position_leg >= 0],
        underlyings=instruments.underlyings,
        expiries=instruments.expiries,
        collateral=_balances_of(entries.balances, sound),
        history=history,
        book=entries,
    )


@njit(cache=True, error_model="numpy")
def _net_lines(start, sound, rank, lines, position_leg):  # type: ignore[no-untyped-def]
    """Net the lines of each sound account by instrument, in the order of their ranks.

    Lines of one instrument are added by quantity and then by profit, so that their order changes
    no sum.

    Parameters
    ----------
    start:
        Offsets of the accounts, shape (N + 1,).
    sound:
        Which accounts have legs, shape (N,).
    rank:
        Of each position's instrument, shape (P,).
    lines:
        Quantity and profit and loss of each position, shape (P,) each.
    position_leg:
        Filled with the leg of each position, shape (P,).

    Returns
    -------
    Offsets of the accounts, shape (N + 1,); of each leg one of its positions, its quantity and its
    profit and loss, shape (L,).
    """
    quantity, unrealised = lines
    leg_start = np.zeros(len(start), dtype=np.int64)
    line = np.empty(len(rank), dtype=np.int64)
    sums = np.zeros((2, len(rank)))
    legs = 0
    for i in range(len(sound)):
        first, last = start[i], start[i + 1]
        if sound[i] and last > first:
            order = first + np.argsort(rank[first:last], kind="mergesort")
            _sort_ties(order, rank, quantity, unrealised)
            for k in range(len(order)):
                p = order[k]
                if k == 0 or rank[p] != rank[order[k - 1]]:
                    line[legs] = p
                    legs += 1
                sums[0, legs - 1] += quantity[p]
                sums[1, legs - 1] += unrealised[p]
                position_leg[p] = legs - 1
        leg_start[i + 1] = legs
    return leg_start, line[:legs].copy(), sums[0, :legs].copy(), sums[1, :legs].copy()


@njit(cache=True, error_model="numpy")
def _sort_ties(order, rank, quantity, unrealised):  # type: ignore[no-untyped-def]
    """Sort positions of equal rank by quantity, then by profit and loss, in place."""
    for k in range(1, len(order)):
        p, at = order[k], k
        while at > 0 and rank[order[at - 1]] == rank[p]:
            q = order[at - 1]
            if quantity[q] < quantity[p]:
                break
            if quantity[q] == quantity[p] and unrealised[q] <= unrealised[p]:
                break
            order[at] = q
            at -= 1
        order[at] = p


def _balances_of(balances: CollateralBalances, sound: Bools) -> CollateralBalances:
    """Those of the sound accounts; the others have none."""
    if sound.all():
        return balances
    counts = np.diff(balances.start)
    start = np.zeros(len(sound) + 1, dtype=np.int64)
    np.cumsum(np.where(sound, counts, 0), out=start[1:])
    return balances.take(start, np.flatnonzero(np.repeat(sound, counts)))


def _stable_price(view: MarketView, rules: CollateralRules) -> float:
    if view.quotes is None:
        return 1.0
    quotes = (view.quotes.instruments.get(asset) for asset in rules.cash_assets)
    marks = (quote.mark for quote in quotes if quote is not None)
    return next((mark for mark in marks if mark is not None), 1.0)
