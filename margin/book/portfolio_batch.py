"""Priced portfolios in flat arrays: what every engine computes on."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.valuation.marks import MarketMarks
from market.bars.daily_closes import DailyCloses
from market.core.arrays import Bools, Floats, Ints
from market.core.errors import DataError

SPOT, PERP, OPTION = range(3)
"""Codes in `Portfolios.kind`."""


@dataclass(frozen=True, slots=True)
class Underlyings:
    """U underlyings, every array of shape (U,); NaN where a price or figure is not known."""

    name: tuple[str, ...]
    spot: Floats
    spot_confidence: Floats
    perp_price: Floats
    perp_confidence: Floats
    open_interest: Floats


@dataclass(frozen=True, slots=True)
class Expiries:
    """E expiries, every array of shape (E,).

    `underlying` is the row in `Underlyings`, `seconds` the time left. Confidences are those of
    forward (rate included) and vol.
    """

    underlying: Ints
    seconds: Floats
    forward: Floats
    rate: Floats
    forward_confidence: Floats
    vol_confidence: Floats


@dataclass(frozen=True, slots=True)
class CollateralBalances:
    """B collateral balances, every array of shape (B,).

    Those of portfolio i are rows ``start[i]:start[i + 1]``.

    Attributes
    ----------
    underlying:
        Row in the underlyings; −1 where there is none.
    price:
        1 for cash; NaN where there is none, which no engine gets to see.
    initial_haircut:
        The whole one, that of maintenance included.
    cash:
        Whether the rule set counts the asset as cash: worth 1, no haircut. A balance with a
        haircut of its own is not cash.
    initial_premium, maintenance_premium:
        Share of a debt required on top of it; None: debts count at their value.
    """

    start: Ints
    asset: tuple[str, ...]
    underlying: Ints
    amount: Floats
    price: Floats
    confidence: Floats
    maintenance_haircut: Floats
    initial_haircut: Floats
    risk_cancelling: Bools
    cash: Bools
    initial_premium: Floats | None = None
    maintenance_premium: Floats | None = None

    def valued(self) -> Bools:
        """Whether each balance has a price and a finite amount, shape (B,)."""
        return np.isfinite(self.amount) & np.isfinite(self.price)

    def take(self, start: Ints, rows: slice | Ints) -> CollateralBalances:
        """Chosen balances under new offsets."""
        initial, maintenance = self.initial_premium, self.maintenance_premium
        return CollateralBalances(
            start=start,
            asset=_items(self.asset, rows),
            underlying=self.underlying[rows],
            amount=self.amount[rows],
            price=self.price[rows],
            confidence=self.confidence[rows],
            maintenance_haircut=self.maintenance_haircut[rows],
            initial_haircut=self.initial_haircut[rows],
            risk_cancelling=self.risk_cancelling[rows],
            cash=self.cash[rows],
            initial_premium=None if initial is None else initial[rows],
            maintenance_premium=None if maintenance is None else maintenance[rows],
        )


@dataclass(frozen=True, slots=True)
class InstrumentTable:
    """K distinct instruments of a book; arrays of shape (K,) but the tables they refer to.

    Attributes
    ----------
    row:
        Row of each identifier.
    errors:
        Why an instrument cannot be valued, by its identifier.
    valued:
        Whether it can be valued.
    kind, underlying, expiry, strike, vol, call:
        As in `Portfolios`.
    symbol:
        Row of the underlying's price in the view's symbols.
    price:
        Of spot and perps in the settlement currency; NaN for options.
    price_age_hours, suspect:
        Age of the price of spot and perps, of options that of their underlying, and whether a
        newer one waits for confirmation.
    quote_age_hours:
        Age of the older of the quotes of an option's forward and vol; 0 for others.
    quoted, stale:
        Whether the price is quoted, and whether it is older than it may be.
    rank:
        Place in the canonical order; identifiers of the same option share one.
    underlying_symbol:
        Row of the price of each of `underlyings` in the view's symbols.
    marks:
        The mark prices of the market.
    """

    row: dict[str, int]
    errors: dict[str, str]
    valued: Bools
    kind: npt.NDArray[np.int8]
    underlying: Ints
    expiry: Ints
    strike: Floats
    vol: Floats
    call: Bools
    symbol: Ints
    price: Floats
    price_age_hours: Floats
    suspect: Bools
    quote_age_hours: Floats
    quoted: Bools
    stale: Bools
    rank: Ints
    underlyings: Underlyings
    expiries: Expiries
    underlying_symbol: tuple[int, ...]
    marks: MarketMarks


@dataclass(frozen=True, slots=True)
class BookEntries:
    """The P positions and B balances of the book that portfolios were made from.

    Those of accounts without a portfolio are included.

    Attributes
    ----------
    problems:
        Why an account has no portfolio, by its index.
    instruments:
        The instruments of the book.
    position_row:
        Row of each position in `instruments`, shape (P,).
    position_leg:
        Leg of each position, shape (P,); −1 where its account has a problem.
    position_symbol:
        Row of each position's underlying in the view's symbols, shape (P,); −1 where it cannot be
        valued.
    unrealised:
        Profit and loss of each position, shape (P,); 0 for options, which count at their value.
    balances:
        The collateral; price NaN where there is none.
    balance_symbol:
        Row of each balance's price in the view's symbols, shape (B,); −1 for cash, and where there
        is none.
    """

    problems: dict[int, DataError]
    instruments: InstrumentTable
    position_row: Ints
    position_leg: Ints
    position_symbol: Ints
    unrealised: Floats
    balances: CollateralBalances
    balance_symbol: Ints


@dataclass(frozen=True, slots=True)
class Portfolios:
    """N portfolios. The legs of portfolio i are rows ``start[i]:start[i + 1]``.

    Legs stand in a canonical order, by underlying, kind, expiry, strike, puts before calls, and
    each instrument once: splitting or permuting positions gives the same legs.

    Attributes
    ----------
    cash:
        Settlement currency, shape (N,).
    stable_price:
        Of the settlement currency's coin, shape (N,).
    start:
        Offsets, shape (N + 1,).
    name:
        Identifier of each leg, length L.
    kind:
        `SPOT`, `PERP` or `OPTION`, int8, shape (L,).
    underlying, expiry:
        Rows in `underlyings` and `expiries`, shape (L,); expiry −1 unless an option.
    quantity:
        Signed, units of the underlying, shape (L,).
    strike, vol:
        Shape (L,); NaN unless an option.
    call:
        Shape (L,).
    unrealised:
        Profit and loss and funding of spot and perps, shape (L,); 0 for options, which count at
        their value.
    position_leg:
        Leg of every position of the portfolios, in the order given, shape (P,).
    history:
        Daily closes for a historical simulation; None where there are none.
    unrealised_inverse:
        `unrealised` if settled in coin, shape (L,); None where it is not known.
    book:
        Positions and balances of the book; None where the portfolios are those of margin cases,
        or a part of others.
    """

    cash: Floats
    stable_price: Floats
    start: Ints
    name: tuple[str, ...]
    kind: npt.NDArray[np.int8]
    underlying: Ints
    expiry: Ints
    quantity: Floats
    strike: Floats
    vol: Floats
    call: Bools
    unrealised: Floats
    position_leg: Ints
    underlyings: Underlyings
    expiries: Expiries
    collateral: CollateralBalances
    history: DailyCloses | None = None
    unrealised_inverse: Floats | None = None
    book: BookEntries | None = None

    def __len__(self) -> int:
        return len(self.cash)

    @property
    def entries(self) -> BookEntries:
        """Positions and balances of the book; raises `DataError` where there is no book."""
        if self.book is None:
            raise DataError("the portfolios were not made from a book; make them from one")
        return self.book

    def between(self, begin: int, end: int) -> Portfolios:
        """Portfolios ``begin`` to ``end - 1``, with the same market; their arrays are views."""
        legs = slice(self.start[begin], self.start[end])
        first, last = self._position(legs.start), self._position(legs.stop)
        starts = self.collateral.start[begin : end + 1]
        return self._part(
            slice(begin, end),
            self.start[begin : end + 1] - legs.start,
            legs,
            self.position_leg[first:last] - legs.start,
            self.collateral.take(starts - starts[0], slice(starts[0], starts[-1])),
        )

    def take(self, accounts: Ints) -> Portfolios:
        """Some portfolios, in the order given, with the same market.

        `position_leg` is then one position for each leg.
        """
        start, legs = row_entries(self.start, accounts)
        collateral = self.collateral.take(*row_entries(self.collateral.start, accounts))
        return self._part(accounts, start, legs, np.arange(len(legs)), collateral)

    def _part(
        self,
        accounts: slice | Ints,
        start: Ints,
        legs: slice | Ints,
        position_leg: Ints,
        collateral: CollateralBalances,
    ) -> Portfolios:
        inverse = self.unrealised_inverse
        return Portfolios(
            cash=self.cash[accounts],
            stable_price=self.stable_price[accounts],
            start=start,
            name=_items(self.name, legs),
            kind=self.kind[legs],
            underlying=self.underlying[legs],
            expiry=self.expiry[legs],
            quantity=self.quantity[legs],
            strike=self.strike[legs],
            vol=self.vol[legs],
            call=self.call[legs],
            unrealised=self.unrealised[legs],
            position_leg=position_leg,
            underlyings=self.underlyings,
            expiries=self.expiries,
            collateral=collateral,
            history=self.history,
            unrealised_inverse=None if inverse is None else inverse[legs],
        )

    def _position(self, leg: int) -> int:
        """The first position of the portfolio that begins with a leg: positions stand by
        portfolio, whatever their order within it."""
        return bisect_left(
            range(len(self.position_leg)), True, key=lambda p: bool(self.position_leg[p] >= leg)
        )


def row_sums(start: Ints, values: Floats) -> Floats:
    """Sum of the values of each portfolio, from its first to its last.

    One account alone therefore sums to the same bits as within any book, which the pairwise
    sums of ``np.add.reduceat`` do not promise.

    Parameters
    ----------
    start:
        Offsets, shape (N + 1,): row i is ``values[start[i]:start[i + 1]]``.
    values:
        Shape (L,); NaN and infinities pass on.

    Returns
    -------
    Shape (N,); 0 for an empty row.
    """
    sums: Floats = _row_sums(start, values)
    return sums


@njit(cache=True)
def _row_sums(start, values):  # type: ignore[no-untyped-def]
    sums = np.zeros(start.shape[0] - 1)
    for i in range(sums.shape[0]):
        for leg in range(start[i], start[i + 1]):
            sums[i] += values[leg]
    return sums


def row_entries(start: Ints, index: Ints) -> tuple[Ints, Ints]:
    """Offsets and entries of chosen rows, in the order given, shapes (len(index) + 1,) and (E,)."""
    entries: tuple[Ints, Ints] = _row_entries(start, index)
    return entries


@njit(cache=True)
def _row_entries(start, index):  # type: ignore[no-untyped-def]
    chosen = np.zeros(len(index) + 1, dtype=np.int64)
    for i in range(len(index)):
        chosen[i + 1] = chosen[i] + start[index[i] + 1] - start[index[i]]
    entries = np.empty(chosen[-1], dtype=np.int64)
    for i in range(len(index)):
        for k in range(chosen[i], chosen[i + 1]):
            entries[k] = start[index[i]] + k - chosen[i]
    return chosen, entries


def _items(names: tuple[str, ...], rows: slice | Ints) -> tuple[str, ...]:
    if isinstance(rows, slice):
        return names[rows]
    return tuple([names[row] for row in rows.tolist()])
