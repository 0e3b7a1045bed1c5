"""The collateral of a book of accounts, priced: balances of many accounts in one market."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.account_problems import find_price
from margin.listing import Listing
from margin.portfolio import Pledge
from margin.portfolios import Pledges, flatten_pledges, placed_pledge
from margin.ruleset import CollateralRules
from margin.view import MarketView
from market.book import Book

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Balances:
    """B balances of N accounts.

    Attributes
    ----------
    pledges:
        All of them; what is not `valued` has the price 1.
    valued:
        Whether a balance has a price and a finite amount, shape (B,).
    symbol:
        Row of its price in the view's symbols, shape (B,); −1 for cash, and where there is none.
    reasons:
        Why an asset has no price.
    """

    pledges: Pledges
    valued: Bools
    symbol: Ints
    reasons: dict[str, str]

    def value(self, stable_price: float) -> Floats:
        """Before haircuts, shape (B,); NaN where there is no price."""
        own = self.pledges
        with np.errstate(over="ignore", invalid="ignore"):
            worth = np.where(own.cash, own.amount, own.amount * own.price / stable_price)
        return np.where(self.valued, worth, np.nan)

    def of_accounts(self, chosen: Bools) -> Pledges:
        """Those of the chosen accounts; the others have none."""
        start = self.pledges.start
        if chosen.all():
            return self.pledges
        ends = np.zeros(len(start), dtype=np.int64)
        np.cumsum(np.where(chosen, np.diff(start), 0), out=ends[1:])
        return take_pledges(self.pledges, ends, np.flatnonzero(np.repeat(chosen, np.diff(start))))


def find_balances(
    book: Book, view: MarketView, rules: CollateralRules, listing: Listing
) -> Balances:
    """Price the collateral of a book: a cash asset at 1, asset X at the mark of XUSDT and at the
    confidence of that symbol's quote. Each distinct asset is looked up once. An asset of which the
    rule set counts nothing is on no underlying: no factor of one makes it count."""
    index = view.index()
    names = dict(zip(listing.underlying_symbol, listing.underlyings.name, strict=True))
    found: dict[str, tuple[int, str | None, float, float]] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(book.balance_asset):
        if name in rules.cash_assets:
            found[name] = (-1, None, 1.0, 1.0)
            continue
        symbol, reason = find_price(name, f"{name}USDT", view, index)
        if reason:
            reasons[name], found[name] = reason, (-1, None, 1.0, 1.0)
            continue
        quote = None if view.quotes is None else view.quotes.instruments.get(f"{name}USDT")
        confidence = 1.0 if quote is None else quote.confidence
        coin = names.get(symbol) if rules.haircut(name) < 1.0 else None
        found[name] = (symbol, coin, float(view.mark[symbol]), confidence)
    owned = [found[name] for name in book.balance_asset]
    rows = {name: row for row, name in enumerate(listing.underlyings.name)}
    held = _held(book, listing, rules)
    owner = np.repeat(np.arange(len(book)), np.diff(book.balance_start)).tolist()
    pledges = [
        placed_pledge(
            Pledge(asset=name, amount=amount, price=price, confidence=confidence, underlying=on),
            rows,
            held.get(account, _NOTHING),
            rules,
        )
        for name, amount, account, (_, on, price, confidence) in zip(
            book.balance_asset, book.balance_amount.tolist(), owner, owned, strict=True
        )
    ]
    known = np.array([name not in reasons for name in book.balance_asset], dtype=np.bool_)
    return Balances(
        flatten_pledges(pledges, np.diff(book.balance_start).tolist(), rules),
        known & np.isfinite(book.balance_amount),
        np.array([symbol for symbol, *_ in owned], dtype=np.int64),
        reasons,
    )


def _held(book: Book, listing: Listing, rules: CollateralRules) -> dict[int, Set[str]]:
    """Names of the underlyings that each account holds something on; nothing where no rule asks."""
    held: dict[int, set[str]] = {}
    if rules.risk_cancelling is UNSET:
        return dict(held)
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start)).tolist()
    for account, name in zip(owner, book.leg_instrument, strict=True):
        row = int(listing.underlying[listing.row[name]])
        if row >= 0:
            held.setdefault(account, set()).add(listing.underlyings.name[row])
    return dict(held)


def take_pledges(pledges: Pledges, start: Ints, rows: Ints) -> Pledges:
    """Chosen balances under new offsets."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(Pledges):
        column = getattr(pledges, field.name)
        if field.name not in ("start", "asset"):
            chosen[field.name] = None if column is None else column[rows]
    asset = tuple([pledges.asset[b] for b in rows.tolist()])
    return Pledges(start=start, asset=asset, **chosen)
