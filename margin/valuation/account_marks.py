"""Prices that a rule set marks by: behind the figures of accounts, and of a trade that leaves
equity as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from margin.book.account_requirement import Requirement
from margin.book.book_portfolios import book_portfolios
from margin.book.portfolio_batch import OPTION, PERP, InstrumentTable
from margin.engines.registry import engine_of
from margin.pricing.black76 import black76_price
from margin.rules.ruleset import RuleSet
from margin.valuation.exposures import YEAR_SECONDS, leg_exposures
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.arrays import Floats, Ints


@dataclass(frozen=True, slots=True)
class InstrumentMark:
    """The price of one instrument.

    Attributes
    ----------
    instrument:
        A position's identifier, or the symbol that prices a coin held as collateral.
    price:
        Settlement currency; of an option the value of one unit at its forward and vol.
    source:
        ``quote`` or ``bar``.
    age_seconds:
        Decision time minus the time of the price, of an option the older one of forward and vol;
        None where it is not known.
    stale:
        Whether it is older than a price may be; see `margin.valuation.marks.MarkPrices`.
    """

    instrument: str
    price: float
    source: Literal["quote", "bar"]
    age_seconds: float | None
    stale: bool


class AccountMarks:
    """The marks of every account of a book: each instrument's is made once and shared.

    Parameters
    ----------
    requirement:
        Of the book.
    ruleset:
        Its rules; they say whether options are marked discounted.
    """

    def __init__(self, requirement: Requirement, ruleset: RuleSet) -> None:
        entries = requirement.portfolios.entries
        self._leg_start, self._row = requirement.leg_start, entries.position_row
        self._balance_start = entries.balances.start
        self._balance_symbol = entries.balance_symbol
        self._symbols, self._spot = (
            entries.instruments.marks.symbols,
            entries.instruments.marks.spot,
        )
        self._instruments = _instrument_marks(
            entries.instruments, discounted=engine_of(ruleset).discounts_options
        )
        self._coins: dict[int, InstrumentMark] = {}

    def of(self, account: int) -> tuple[InstrumentMark, ...]:
        """Marks of an account without problems: of its positions, then of its collateral in
        coins, each instrument once, in the account's own order."""
        marks: dict[str, InstrumentMark] = {}
        for row in self._row[self._leg_start[account] : self._leg_start[account + 1]].tolist():
            mark = self._instruments[row]
            if mark is not None:
                marks.setdefault(mark.instrument, mark)
        balances = slice(self._balance_start[account], self._balance_start[account + 1])
        for symbol in self._balance_symbol[balances].tolist():
            if symbol >= 0:
                mark = self._coin(symbol)
                marks.setdefault(mark.instrument, mark)
        return tuple(marks.values())

    def _coin(self, symbol: int) -> InstrumentMark:
        spot = self._spot
        if symbol not in self._coins:
            self._coins[symbol] = _mark(
                self._symbols[symbol],
                float(spot.price[symbol]),
                bool(spot.quoted[symbol]),
                float(spot.age_hours[symbol]),
                bool(spot.stale[symbol]),
            )
        return self._coins[symbol]


@dataclass(frozen=True, slots=True)
class TradePrice:
    """Price of one unit, settlement currency; NaN where the instrument cannot be valued.

    Attributes
    ----------
    price:
        The mark; of an option its value.
    premium:
        Whether it is paid in cash, as of an option, or only entered at.
    """

    price: float
    premium: bool = False


def trade_price(instrument: str, view: MarketView, ruleset: RuleSet) -> TradePrice:
    """The price of an instrument in a market under a rule set: of spot and perps that of
    `margin.valuation.marks`, of an option its value at its vol."""
    account = Account("what-if", 0.0, (Position(instrument, 1.0),))
    options = engine_of(ruleset).margins_options
    portfolios = book_portfolios(Book.of([account]), view, ruleset.collateral, options=options)
    if portfolios.entries.problems:
        return TradePrice(math.nan)
    kind, underlyings = portfolios.kind[0], portfolios.underlyings
    if kind == OPTION:
        exposures = leg_exposures(portfolios, discounted=engine_of(ruleset).discounts_options)
        return TradePrice(float(exposures.value[0]), premium=True)
    row = portfolios.underlying[0]
    return TradePrice(float((underlyings.perp_price if kind == PERP else underlyings.spot)[row]))


def _instrument_marks(table: InstrumentTable, *, discounted: bool) -> list[InstrumentMark | None]:
    price = table.price.copy()
    option = table.valued & (table.kind == OPTION)
    if option.any():
        price[option] = _option_prices(table, np.flatnonzero(option), discounted=discounted)
    age = np.where(table.kind == OPTION, table.quote_age_hours, table.price_age_hours)
    columns = (table.valued, price, table.quoted, age, table.stale)
    rows = zip(table.row, *(column.tolist() for column in columns), strict=True)
    return [_mark(name, *figures) if valued else None for name, valued, *figures in rows]


def _option_prices(table: InstrumentTable, rows: Ints, *, discounted: bool) -> Floats:
    expiry, expiries = table.expiry[rows], table.expiries
    return black76_price(
        expiries.forward[expiry],
        table.strike[rows],
        expiries.seconds[expiry] / YEAR_SECONDS,
        table.vol[rows],
        table.call[rows],
        np.maximum(expiries.rate[expiry], 0.0) if discounted else 0.0,
    )


def _mark(name: str, price: float, quoted: bool, age_hours: float, stale: bool) -> InstrumentMark:
    # To the microsecond: what hours in float64 leave beyond that is noise.
    age = None if math.isnan(age_hours) else round(age_hours * 3_600.0, 6)
    return InstrumentMark(name, price, "quote" if quoted else "bar", age, stale)
