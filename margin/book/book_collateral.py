"""The collateral of a book of accounts, priced: balances of many accounts in one market."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.book.portfolio_batch import CollateralBalances
from margin.rules.ruleset import CollateralRules
from margin.valuation.asset_weights import asset_weight, liability_weight
from margin.valuation.instrument_table import Listing
from margin.valuation.marks import QUOTE_COIN, MarketMarks
from market.accounts.book import Book
from market.quotes.quotes import InstrumentQuote

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Assets:
    """A distinct collateral assets of a book, every array of shape (A,).

    Attributes
    ----------
    name:
        Length A.
    symbol:
        Row of its price in the view's symbols; −1 for cash and USDT, and where there is none.
    underlying:
        Row in the listing's underlyings; −1 where it is on none.
    price, confidence:
        1 for cash, and where there is no price.
    cash, priced:
        Whether it is cash, and whether it has a price.
    reasons:
        Why an asset has no price, by its name.
    """

    name: tuple[str, ...]
    symbol: Ints
    underlying: Ints
    price: Floats
    confidence: Floats
    cash: Bools
    priced: Bools
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Balances:
    """B balances of N accounts.

    Attributes
    ----------
    pledges:
        All of them; what is not `valued` means nothing.
    asset:
        Row of each in `assets`, shape (B,).
    assets:
        The distinct assets.
    valued:
        Whether a balance has a price and a finite amount, shape (B,).
    symbol:
        Row of its price in the view's symbols, shape (B,); −1 for cash, and where there is none.
    """

    pledges: CollateralBalances
    asset: Ints
    assets: Assets
    valued: Bools
    symbol: Ints

    def value(self, stable_price: float) -> Floats:
        """Before haircuts, shape (B,); NaN where there is no price."""
        own = self.pledges
        with np.errstate(over="ignore", invalid="ignore"):
            worth = np.where(own.cash, own.amount, own.amount * own.price / stable_price)
        return np.where(self.valued, worth, np.nan)

    def of_accounts(self, chosen: Bools) -> CollateralBalances:
        """Those of the chosen accounts; the others have none."""
        start = self.pledges.start
        if chosen.all():
            return self.pledges
        ends = np.zeros(len(start), dtype=np.int64)
        np.cumsum(np.where(chosen, np.diff(start), 0), out=ends[1:])
        return take_pledges(self.pledges, ends, np.flatnonzero(np.repeat(chosen, np.diff(start))))


def find_balances(
    book: Book,
    marks: MarketMarks,
    quotes: Mapping[str, InstrumentQuote],
    rules: CollateralRules,
    listing: Listing,
    leg_row: Ints,
) -> Balances:
    """Price the collateral of a book: a cash asset at 1, asset X at the mark of XUSDT and at the
    confidence of that symbol's quote; USDT, which those prices are in, at 1 where it is not cash.

    Each distinct asset is looked up once. An asset of which the rule set counts nothing is on no
    underlying: no factor of one makes it count.

    Parameters
    ----------
    leg_row:
        Row of each position in the listing, shape (L,).
    """
    code = {name: row for row, name in enumerate(dict.fromkeys(book.balance_asset))}
    assets = _assets(tuple(code), marks, quotes, rules, listing)
    asset = np.fromiter(
        map(code.__getitem__, book.balance_asset), np.int64, len(book.balance_asset)
    )
    amount = book.balance_amount
    valued = np.take(assets.priced, asset) & np.isfinite(amount)
    underlying, moves = _moved_with(book, rules, listing, leg_row, asset, assets)
    least, whole, premiums = _haircuts(rules, assets.name, asset, amount)
    pledges = CollateralBalances(
        start=book.balance_start,
        asset=book.balance_asset,
        underlying=underlying,
        amount=amount,
        price=np.take(assets.price, asset),
        confidence=np.take(assets.confidence, asset),
        maintenance_haircut=least,
        initial_haircut=whole,
        risk_cancelling=moves,
        cash=np.take(assets.cash, asset),
        **premiums,
    )
    return Balances(pledges, asset, assets, valued, np.take(assets.symbol, asset))


def _assets(
    names: tuple[str, ...],
    marks: MarketMarks,
    quotes: Mapping[str, InstrumentQuote],
    rules: CollateralRules,
    listing: Listing,
) -> Assets:
    rows = {symbol: row for row, symbol in enumerate(listing.underlying_symbol)}
    reasons: dict[str, str] = {}
    found: list[tuple[int, int, float, float, bool, bool]] = []
    for name in names:
        if rules.is_cash(name):
            found.append((-1, -1, 1.0, 1.0, True, True))
            continue
        counts = rules.haircut(name) < 1.0
        if name == QUOTE_COIN and f"{name}USDT" not in marks.row:
            found.append((-1, -1, 1.0, 1.0, False, True))
            continue
        symbol, reason = marks.find_price(name, f"{name}USDT")
        if reason:
            reasons[name] = reason
            found.append((-1, -1, 1.0, 1.0, False, False))
            continue
        quote = quotes.get(f"{name}USDT")
        found.append(
            (
                symbol,
                rows.get(symbol, -1) if counts else -1,
                float(marks.spot.price[symbol]),
                1.0 if quote is None else quote.confidence,
                False,
                True,
            )
        )
    symbols, underlyings, prices, confidences, cash, priced = (
        zip(*found, strict=True) if found else ((),) * 6
    )
    return Assets(
        name=names,
        symbol=np.array(symbols, dtype=np.int64),
        underlying=np.array(underlyings, dtype=np.int64),
        price=np.array(prices, dtype=np.float64),
        confidence=np.array(confidences, dtype=np.float64),
        cash=np.array(cash, dtype=np.bool_),
        priced=np.array(priced, dtype=np.bool_),
        reasons=reasons,
    )


def _haircuts(
    rules: CollateralRules, names: tuple[str, ...], asset: Ints, amount: Floats
) -> tuple[Floats, Floats, dict[str, Floats]]:
    """Haircuts of each balance, maintenance and the whole of initial margin; and the premiums of
    debts, empty where the rule set has no weights by size."""
    own = [rules.haircut(name) for name in names]
    extra = [rules.initial_extra_haircut(name) for name in names]
    least = np.take(np.array(own, dtype=np.float64), asset)
    more = np.take(np.array(extra, dtype=np.float64), asset)
    whole = np.minimum(least + more, 1.0)
    if rules.weights is UNSET:
        return least, whole, {}
    premiums = np.zeros((2, len(amount)))
    for row, name in enumerate(names):
        weights = rules.weights_of(name)
        if weights is None:
            continue
        mine = asset == row
        held, size = mine & (amount > 0.0), amount[mine]
        imf = np.array(weights.imf_factor)
        counted, credited = (
            asset_weight(np.array(weight), imf, size)
            for weight in (weights.maintenance_asset, weights.initial_asset)
        )
        least[mine] = np.where(held[mine], 1.0 - counted, 0.0)
        extra_haircut = np.where(held[mine], more[mine], 0.0)
        whole[mine] = np.where(
            held[mine], np.minimum(1.0 - credited + extra_haircut, 1.0), extra_haircut
        )
        owed = amount[mine] < 0.0
        for level, weight in enumerate((weights.initial_liability, weights.maintenance_liability)):
            asked = liability_weight(np.array(weight), imf, size) - 1.0
            premiums[level, mine] = np.where(owed, asked, 0.0)
    return least, whole, {"initial_premium": premiums[0], "maintenance_premium": premiums[1]}


def _moved_with(
    book: Book,
    rules: CollateralRules,
    listing: Listing,
    leg_row: Ints,
    asset: Ints,
    assets: Assets,
) -> tuple[Ints, Bools]:
    """Row of the underlying that each balance is on, and whether scenarios move it with one.

    It moves with the coin that the rule set names where its account holds something on that coin.
    """
    underlying = np.take(assets.underlying, asset)
    moves = np.zeros(len(asset), dtype=np.bool_)
    if rules.risk_cancelling is UNSET or not len(asset) or not len(leg_row):
        return underlying, moves
    width = len(listing.underlyings.name)
    rows = {name: row for row, name in enumerate(listing.underlyings.name)}
    holder = np.repeat(np.arange(len(book)), np.diff(book.leg_start))
    on = listing.underlying[leg_row]
    held = np.unique((holder * width + on)[on >= 0])
    owner = np.repeat(np.arange(len(book)), np.diff(book.balance_start))
    for row, name in enumerate(assets.name):
        coin = rules.coin(name)
        # The coin's own name goes before that of its symbol.
        for other in () if coin is None else (f"{coin}USDT", coin):
            if other in rows:
                mine = np.flatnonzero(asset == row)
                mine = mine[np.isin(owner[mine] * width + rows[other], held)]
                underlying[mine], moves[mine] = rows[other], True
    return underlying, moves


def take_pledges(pledges: CollateralBalances, start: Ints, rows: Ints) -> CollateralBalances:
    """Chosen balances under new offsets."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(CollateralBalances):
        column = getattr(pledges, field.name)
        if field.name not in ("start", "asset"):
            chosen[field.name] = None if column is None else column[rows]
    asset = tuple([pledges.asset[b] for b in rows.tolist()])
    return CollateralBalances(start=start, asset=asset, **chosen)
