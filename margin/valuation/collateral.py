"""Collateral: the price, haircuts and premium of every balance, and what balances are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec import UNSET

from margin.book.portfolio_batch import (
    CollateralBalances,
    InstrumentTable,
    Portfolios,
    row_sums,
)
from margin.engines.margins import Part
from margin.rules.asset_weights import asset_weight, liability_weight
from margin.rules.ruleset import CollateralRules
from margin.valuation.marks import QUOTE_COIN
from market.accounts.book import Book
from market.core.arrays import Bools, Floats, Ints
from market.quotes.quotes import InstrumentQuote


class _Asset(NamedTuple):
    """One collateral asset: row of its price in the view's symbols, row of its underlying, its
    price (NaN: none) and that price's confidence, and whether it is cash."""

    symbol: int = -1
    underlying: int = -1
    price: float = 1.0
    confidence: float = 1.0
    cash: bool = False


def price_collateral(
    book: Book,
    instruments: InstrumentTable,
    position_row: Ints,
    quotes: Mapping[str, InstrumentQuote],
    rules: CollateralRules,
) -> tuple[CollateralBalances, Ints, dict[str, str]]:
    """Price the collateral of a book, each distinct asset once.

    A cash asset is worth 1, asset X the mark of XUSDT at the confidence of that symbol's quote;
    USDT, the unit of those prices, 1 where it is not cash. An asset of which the rule set counts
    nothing is on no underlying: no factor of one makes it count.

    Parameters
    ----------
    position_row:
        Row of each position in the instruments, shape (L,).

    Returns
    -------
    All balances, the row of each one's price in the view's symbols, shape (B,), −1 for cash and
    where there is none, and why an asset has no price, by its name.
    """
    if not book.balance_asset:
        return _no_balances(len(book), rules), np.zeros(0, dtype=np.int64), {}
    names = tuple(dict.fromkeys(book.balance_asset))
    assets, errors = _price_assets(names, instruments, quotes, rules)
    code = {name: row for row, name in enumerate(names)}
    count = len(book.balance_asset)
    asset = np.fromiter(map(code.__getitem__, book.balance_asset), np.int64, count)
    symbol: Ints = np.array([one.symbol for one in assets], dtype=np.int64)[asset]
    underlying: Ints = np.array([one.underlying for one in assets], dtype=np.int64)[asset]
    price: Floats = np.array([one.price for one in assets], dtype=np.float64)[asset]
    confidence: Floats = np.array([one.confidence for one in assets], dtype=np.float64)[asset]
    cash: Bools = np.array([one.cash for one in assets], dtype=np.bool_)[asset]
    moves = np.zeros(count, dtype=np.bool_)
    if rules.risk_cancelling is not UNSET and count and len(position_row):
        places = _underlyings_held(book, instruments, position_row)
        owner = np.repeat(np.arange(len(book)), np.diff(book.balance_start))
        rows = {name: row for row, name in enumerate(instruments.underlyings.name)}
        for code_of_asset, name in enumerate(names):
            coin = rules.coin(name)
            # The coin's own name goes before that of its symbol.
            for other in () if coin is None else (f"{coin}USDT", coin):
                if other in rows:
                    chosen = np.flatnonzero(asset == code_of_asset)
                    chosen = chosen[np.isin(owner[chosen] * len(rows) + rows[other], places)]
                    underlying[chosen], moves[chosen] = rows[other], True
    maintenance, initial, premiums = _haircuts(rules, names, asset, book.balance_amount)
    balances = CollateralBalances(
        start=book.balance_start,
        asset=book.balance_asset,
        underlying=underlying,
        amount=book.balance_amount,
        price=price,
        confidence=confidence,
        maintenance_haircut=maintenance,
        initial_haircut=initial,
        risk_cancelling=moves,
        cash=cash,
        **premiums,
    )
    return balances, symbol, errors


def _no_balances(accounts: int, rules: CollateralRules) -> CollateralBalances:
    """The collateral of accounts that have none."""
    nothing, rows, flags = np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    start = np.zeros(accounts + 1, dtype=np.int64)
    balances = (rows, nothing, nothing, nothing, nothing, nothing, flags, flags)
    premiums = () if rules.weights is UNSET else (nothing, nothing)
    return CollateralBalances(start, (), *balances, *premiums)


def _price_assets(
    names: Sequence[str],
    instruments: InstrumentTable,
    quotes: Mapping[str, InstrumentQuote],
    rules: CollateralRules,
) -> tuple[list[_Asset], dict[str, str]]:
    """The assets, and why some have no price."""
    marks = instruments.marks
    rows = {symbol: row for row, symbol in enumerate(instruments.underlying_symbol)}
    assets: list[_Asset] = []
    errors: dict[str, str] = {}
    for name in names:
        if rules.is_cash(name):
            assets.append(_Asset(cash=True))
        elif name == QUOTE_COIN and f"{name}USDT" not in marks.row:
            assets.append(_Asset())
        else:
            symbol, error = marks.find_price(name, f"{name}USDT")
            if error:
                errors[name] = error
                assets.append(_Asset(price=np.nan))
                continue
            quote = quotes.get(f"{name}USDT")
            assets.append(
                _Asset(
                    symbol,
                    rows.get(symbol, -1) if rules.haircut(name) < 1.0 else -1,
                    float(marks.spot.price[symbol]),
                    1.0 if quote is None else quote.confidence,
                )
            )
    return assets, errors


def _underlyings_held(book: Book, instruments: InstrumentTable, position_row: Ints) -> Ints:
    """Account times number of underlyings plus row of the underlying, of all that accounts hold."""
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start))
    underlying = instruments.underlying[position_row]
    width = len(instruments.underlyings.name)
    return np.unique((owner * width + underlying)[underlying >= 0])


def _haircuts(
    rules: CollateralRules, names: tuple[str, ...], asset: Ints, amount: Floats
) -> tuple[Floats, Floats, dict[str, Floats]]:
    """Haircuts of each balance, maintenance and the whole of initial margin; and the premiums of
    debts, empty where the rule set has no weights by size."""
    maintenance = np.take(np.array([rules.haircut(name) for name in names], np.float64), asset)
    extra_haircuts = [rules.initial_extra_haircut(name) for name in names]
    extra = np.take(np.array(extra_haircuts, dtype=np.float64), asset)
    initial = np.minimum(maintenance + extra, 1.0)
    if rules.weights is UNSET:
        return maintenance, initial, {}
    premiums = np.zeros((2, len(amount)))
    for row, name in enumerate(names):
        weights = rules.weights_of(name)
        if weights is None:
            continue
        chosen = asset == row
        size = amount[chosen]
        deposit, debt = size > 0.0, size < 0.0
        imf = np.array(weights.imf_factor)
        maintenance_weight, initial_weight = (
            asset_weight(np.array(weight), imf, size)
            for weight in (weights.maintenance_asset, weights.initial_asset)
        )
        maintenance[chosen] = np.where(deposit, 1.0 - maintenance_weight, 0.0)
        deposit_extra = np.where(deposit, extra[chosen], 0.0)
        initial[chosen] = np.where(
            deposit, np.minimum(1.0 - initial_weight + deposit_extra, 1.0), deposit_extra
        )
        for level, weight in enumerate((weights.initial_liability, weights.maintenance_liability)):
            premium = liability_weight(np.array(weight), imf, size) - 1.0
            premiums[level, chosen] = np.where(debt, premium, 0.0)
    return (
        maintenance,
        initial,
        {
            "initial_premium": premiums[0],
            "maintenance_premium": premiums[1],
        },
    )


@dataclass(frozen=True, slots=True)
class CollateralValues:
    """Collateral of N portfolios and of its B balances, settlement currency.

    Attributes
    ----------
    value, initial_haircut, maintenance_haircut:
        Of each portfolio, shape (N,): the value before haircuts, and the haircuts.
    counted:
        Value less haircut for maintenance, summed over the balances, shape (N,).
    initial_extra:
        The haircut of initial margin beyond that of maintenance, shape (N,).
    balance_value, balance_initial_haircut, balance_maintenance_haircut:
        The same of each balance, shape (B,).
    """

    value: Floats
    initial_haircut: Floats
    maintenance_haircut: Floats
    counted: Floats
    initial_extra: Floats
    balance_value: Floats
    balance_initial_haircut: Floats
    balance_maintenance_haircut: Floats

    def parts(self, portfolios: Portfolios, account: int) -> tuple[Part, ...]:
        """Value and haircut of each balance of one portfolio."""
        balances = portfolios.collateral
        parts = []
        for b in range(balances.start[account], balances.start[account + 1]):
            asset, value = balances.asset[b], float(self.balance_value[b])
            parts.append(Part("collateral", asset, value, value))
            initial = self.balance_initial_haircut[b]
            maintenance = self.balance_maintenance_haircut[b]
            if initial != 0.0 or maintenance != 0.0:
                name = "collateral haircut" if value >= 0.0 else "debt premium"
                parts.append(Part(name, asset, -float(initial), -float(maintenance)))
        return tuple(parts)


def collateral_values(portfolios: Portfolios) -> CollateralValues:
    """``amount * price / stable price``, cash assets 1 each; a haircut takes its share of a
    positive value, for it never makes a debt smaller, and a premium its share of a debt."""
    balances = portfolios.collateral
    start = balances.start
    if not len(balances.amount):
        return CollateralValues(
            *(np.zeros(len(portfolios)) for _ in range(5)), *(np.zeros(0) for _ in range(3))
        )
    owner = np.repeat(np.arange(len(portfolios)), np.diff(start))
    worth = balances.amount * balances.price / portfolios.stable_price[owner]
    value = np.where(balances.cash, balances.amount, worth)
    positive = np.where(value > 0.0, value, 0.0)
    initial, maintenance = (
        positive * np.where(balances.cash, 0.0, haircut)
        for haircut in (balances.initial_haircut, balances.maintenance_haircut)
    )
    if balances.initial_premium is not None and balances.maintenance_premium is not None:
        debt = np.where(value < 0.0, -value, 0.0)
        initial = initial + debt * balances.initial_premium
        maintenance = maintenance + debt * balances.maintenance_premium
    return CollateralValues(
        row_sums(start, value),
        row_sums(start, initial),
        row_sums(start, maintenance),
        row_sums(start, value - maintenance),
        row_sums(start, initial - maintenance),
        value,
        initial,
        maintenance,
    )
