"""Equity, margins and headroom of every account of a book under one rule set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.rows import row_sums
from margin.ruleset import RuleSet
from margin.tier import TierTable
from margin.view import MarketView
from market.book import Book
from market.errors import DataError, InstrumentError
from market.instruments import parse_instrument

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_Found = tuple[int, str]
"""Row in the view, or -1 and the reason why there is none."""


@dataclass(frozen=True, slots=True)
class Collateral:
    """B balances of N accounts.

    Attributes
    ----------
    start:
        Offsets of each account's balances, shape (N + 1,).
    symbol:
        Row of each asset's price in the view's symbols, shape (B,); −1 for a cash asset, and
        where there is no price.
    value:
        Amount at the mark, before haircuts, settlement currency, shape (B,); negative for a
        debt, NaN where there is no price.
    haircut:
        Share of a positive value that does not count, shape (B,); 0 for cash assets.
    """

    start: Ints
    symbol: Ints
    value: Floats
    haircut: Floats

    def counted(self) -> Floats:
        """What each balance counts for, shape (B,): a debt in full."""
        return np.where(self.value < 0, self.value, self.value * (1.0 - self.haircut))


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the rules say about N accounts with L positions, settlement currency.

    Attributes
    ----------
    equity:
        Cash + collateral after haircuts + unrealised profit and loss, shape (N,).
    initial_margin, maintenance_margin:
        Shape (N,).
    headroom:
        ``equity - maintenance_margin``, shape (N,).
    gross_notional:
        Sum of absolute notionals, shape (N,).
    leg_start:
        Offsets of each account's positions, shape (N + 1,).
    leg_symbol:
        Row of each position in the view's symbols, −1 where it cannot be valued, shape (L,).
    leg_notional:
        Signed, quantity times mark, shape (L,); NaN where it cannot be valued.
    leg_unrealised_pnl, leg_initial_margin, leg_maintenance_margin:
        Shape (L,).
    problems:
        Why an account has no figures, by its index: the first thing found wrong with it. All
        its figures are NaN; the other accounts are not touched.
    collateral:
        The balances inside `equity`; None where whoever made this was not told.
    """

    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    headroom: Floats
    gross_notional: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_notional: Floats
    leg_unrealised_pnl: Floats
    leg_initial_margin: Floats
    leg_maintenance_margin: Floats
    problems: dict[int, DataError]
    collateral: Collateral | None = None

    def __len__(self) -> int:
        return len(self.equity)


def compute_requirement(book: Book, view: MarketView, ruleset: RuleSet) -> Requirement:
    """Apply a rule set to a book.

    ``equity = cash + sum(amount * price * (1 - haircut)) + sum(quantity * (mark - entry))``, a
    NaN entry meaning entry at the mark; margins are tier margins of each position on its own
    (a venue nets an instrument into one position before). A negative collateral balance is a
    debt and counts in full: a haircut never makes a debt smaller.

    Errors are per account, in `Requirement.problems`: unknown instrument or asset, missing
    price, option under a tier rule set (`InstrumentError`), a number that is not finite, or
    figures too large for float64 (`DataError`).

    References
    ----------
    Binance, "Leverage and Margin of USD-M Futures".
    """
    problems = _Problems(book)
    for i in np.flatnonzero(~np.isfinite(book.cash)):
        problems.of_account(int(i), f"cash is {book.cash[i]}; expected a finite number")

    leg_symbol = _leg_symbols(book, view, problems)
    collateral = _collateral(book, view, ruleset, problems)
    table = TierTable.build(ruleset, view.symbols)
    # Overflow is found below and reported by account, not warned about.
    with np.errstate(over="ignore", invalid="ignore"):
        mark = _take(view.mark, leg_symbol)
        notional = book.leg_quantity * mark
        entry = np.where(np.isnan(book.leg_entry_price), mark, book.leg_entry_price)
        unrealised = book.leg_quantity * (mark - entry)
        leg_initial = table.initial(notional, leg_symbol)
        leg_maintenance = table.maintenance(notional, leg_symbol)
        initial = row_sums(book.leg_start, leg_initial)
        maintenance = row_sums(book.leg_start, leg_maintenance)
        gross = row_sums(book.leg_start, np.abs(notional))
        equity = book.cash + row_sums(book.balance_start, collateral.counted())
        equity += row_sums(book.leg_start, unrealised)
        headroom = equity - maintenance

    figures = (equity, initial, maintenance, headroom, gross)
    finite = np.logical_and.reduce([np.isfinite(figure) for figure in figures])
    for i in np.flatnonzero(~finite):
        problems.of_account(int(i), "its figures exceed what float64 can hold; check its sizes")
    for figure in figures:
        figure[list(problems.found)] = np.nan
    return Requirement(
        *figures,
        leg_start=book.leg_start,
        leg_symbol=leg_symbol,
        leg_notional=notional,
        leg_unrealised_pnl=unrealised,
        leg_initial_margin=leg_initial,
        leg_maintenance_margin=leg_maintenance,
        problems=problems.found,
        collateral=collateral,
    )


def collateral_rate(ruleset: RuleSet, asset: str) -> float:
    """Share of a positive balance that counts as equity: 1 minus the haircut; 1 for cash."""
    return 1.0 - ruleset.collateral.haircut(asset)


class _Problems:
    """The first problem of each account."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.found: dict[int, DataError] = {}

    def of_account(self, i: int, reason: str) -> None:
        self._add(i, DataError(f"account {self._book.account_ids[i]!r}: {reason}"))

    def of_entry(self, start: Ints, entry: int, identifier: str, reason: str) -> None:
        """Blame the account that owns an entry of the rows `start`."""
        i = int(np.searchsorted(start, entry, side="right")) - 1
        message = f"account {self._book.account_ids[i]!r}: {reason}"
        self._add(i, InstrumentError(message, identifier))

    def _add(self, i: int, error: DataError) -> None:
        self.found.setdefault(i, error)


def _leg_symbols(book: Book, view: MarketView, problems: _Problems) -> Ints:
    index = view.index()
    rows, found = _look_up(book.leg_instrument, lambda name: _find_instrument(name, view, index))
    impossible_entry = np.isinf(book.leg_entry_price) | (book.leg_entry_price <= 0)
    numbers = np.isfinite(book.leg_quantity) & ~impossible_entry
    for leg in np.flatnonzero((rows < 0) | ~numbers):
        name = book.leg_instrument[leg]
        reason = found[name][1] or (
            f"{name!r} has quantity {book.leg_quantity[leg]} and entry price "
            f"{book.leg_entry_price[leg]}; expected finite numbers and a price above 0"
        )
        problems.of_entry(book.leg_start, int(leg), name, reason)
    rows[~numbers] = -1
    return rows


def _find_instrument(name: str, view: MarketView, index: dict[str, int]) -> _Found:
    try:
        instrument = parse_instrument(name)
    except InstrumentError as error:
        return -1, str(error)
    if instrument.kind == "option":
        return -1, f"{name!r} is an option; the tier engine margins spot and perpetuals only"
    return _find_price(name, instrument.symbol, view, index)


def _find_price(name: str, symbol: str, view: MarketView, index: dict[str, int]) -> _Found:
    row = index.get(symbol, -1)
    if row < 0:
        return -1, f"{name!r} is unknown: the market has no symbol {symbol}; add its bars"
    if not 0 < view.mark[row] < np.inf:
        return -1, f"{name!r} has no price: the mark of {symbol} is {view.mark[row]}"
    return row, ""


def _collateral(book: Book, view: MarketView, ruleset: RuleSet, problems: _Problems) -> Collateral:
    cash_assets = frozenset(ruleset.collateral.cash_assets)
    index = view.index()
    names = book.balance_asset
    rows, found = _look_up(
        names,
        lambda name: (
            (-1, "") if name in cash_assets else _find_price(name, f"{name}USDT", view, index)
        ),
    )
    haircuts = {name: ruleset.collateral.haircut(name) for name in found}
    haircut = np.fromiter((haircuts[name] for name in names), np.float64, len(names))
    cash = np.fromiter((name in cash_assets for name in names), np.bool_, len(names))
    price = np.where(cash, 1.0, _take(view.mark, rows))
    finite = np.isfinite(book.balance_amount)
    for bad in np.flatnonzero(np.isnan(price) | ~finite):
        name = names[bad]
        reason = found[name][1] or (
            f"collateral {name!r} has amount {book.balance_amount[bad]}; expected a finite number"
        )
        problems.of_entry(book.balance_start, int(bad), name, reason)
    with np.errstate(over="ignore", invalid="ignore"):
        return Collateral(book.balance_start, rows, book.balance_amount * price, haircut)


def _look_up(names: Sequence[str], find: Callable[[str], _Found]) -> tuple[Ints, dict[str, _Found]]:
    """Row of every name, each distinct name looked up once."""
    found = {name: find(name) for name in dict.fromkeys(names)}
    rows = np.fromiter((found[name][0] for name in names), dtype=np.int64, count=len(names))
    return rows, found


def _take(values: Floats, row: Ints) -> Floats:
    """`values` at each row, NaN at −1."""
    taken = np.full(len(row), np.nan)
    known = row >= 0
    taken[known] = values[row[known]]
    return taken
