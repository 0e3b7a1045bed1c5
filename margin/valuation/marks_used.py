"""The mark prices behind an account's figures: what each instrument is worth, since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from margin.book.book_portfolios import BookPortfolios
from margin.book.portfolio_batch import OPTION
from margin.book.requirement import Requirement
from margin.engines.registry import engine_of
from margin.pricing.black76 import black76_price
from margin.rules.ruleset import RuleSet
from margin.valuation.exposures import YEAR_SECONDS
from margin.valuation.marks import MarkPrices

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MarkUsed:
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


class MarksUsed:
    """The marks of every account of a book: each instrument's is made once and shared.

    Parameters
    ----------
    requirement:
        The book's figures.
    ruleset:
        Those that they rest on: they say whether options are marked discounted.
    """

    def __init__(self, requirement: Requirement, ruleset: RuleSet) -> None:
        held = requirement.margined.book
        self._leg_start, self._row = requirement.leg_start, held.position_row
        self._balance_start, self._asset = requirement.collateral.start, held.balances.asset
        self._instruments = _instrument_marks(held, discounted=engine_of(ruleset).discounts_options)
        self._assets = _asset_marks(held)

    def of(self, account: int) -> tuple[MarkUsed, ...]:
        """Marks of an account without problems: of its positions, then of its collateral in
        coins, each instrument once, in the account's own order."""
        found: dict[str, MarkUsed] = {}
        for row in self._row[self._leg_start[account] : self._leg_start[account + 1]].tolist():
            mark = self._instruments[row]
            if mark is not None:
                found.setdefault(mark.instrument, mark)
        balances = slice(self._balance_start[account], self._balance_start[account + 1])
        for row in self._asset[balances].tolist():
            mark = self._assets[row]
            if mark is not None:
                found.setdefault(mark.instrument, mark)
        return tuple(found.values())

    def stale(self) -> Bools:
        """Whether a price behind each account is stale, shape (N,)."""
        legs = _flags(self._instruments)[self._row]
        balances = _flags(self._assets)[self._asset]
        return _any(self._leg_start, legs) | _any(self._balance_start, balances)


def _instrument_marks(held: BookPortfolios, *, discounted: bool) -> list[MarkUsed | None]:
    listing = held.listing
    price = listing.price.copy()
    option = listing.valued & (listing.kind == OPTION)
    price[option] = _option_prices(held, np.flatnonzero(option), discounted=discounted)
    age = np.where(listing.kind == OPTION, listing.quote_age_hours, listing.price_age_hours)
    return [
        _mark(name, float(price[k]), bool(listing.quoted[k]), float(age[k]), bool(listing.stale[k]))
        if listing.valued[k]
        else None
        for k, name in enumerate(listing.row)
    ]


def _option_prices(held: BookPortfolios, rows: Ints, *, discounted: bool) -> Floats:
    listing, expiries = held.listing, held.listing.expiries
    expiry = listing.expiry[rows]
    rate = np.maximum(expiries.rate[expiry], 0.0) if discounted else 0.0
    value: Floats = black76_price(
        expiries.forward[expiry],
        listing.strike[rows],
        expiries.seconds[expiry] / YEAR_SECONDS,
        listing.vol[rows],
        listing.call[rows],
        rate,
    )
    return value


def _asset_marks(held: BookPortfolios) -> list[MarkUsed | None]:
    spot = held.marks.spot
    return [
        None if symbol < 0 else _spot_mark(f"{name}USDT", spot, symbol)
        for name, symbol in zip(
            held.balances.assets.name, held.balances.assets.symbol.tolist(), strict=True
        )
    ]


def _spot_mark(name: str, spot: MarkPrices, row: int) -> MarkUsed:
    return _mark(
        name,
        float(spot.price[row]),
        bool(spot.quoted[row]),
        float(spot.age_hours[row]),
        bool(spot.stale[row]),
    )


def _mark(name: str, price: float, quoted: bool, age_hours: float, stale: bool) -> MarkUsed:
    # To the microsecond: what hours in float64 leave beyond that is noise.
    age = None if np.isnan(age_hours) else round(age_hours * 3_600.0, 6)
    return MarkUsed(name, price, "quote" if quoted else "bar", age, stale)


def _flags(marks: list[MarkUsed | None]) -> Bools:
    return np.array([mark is not None and mark.stale for mark in marks], dtype=np.bool_)


def _any(start: Ints, flags: Bools) -> Bools:
    """Whether any entry of each row is set, shape (N,)."""
    counts = np.concatenate([[0], np.cumsum(flags)])
    found: Bools = counts[start[1:]] > counts[start[:-1]]
    return found
