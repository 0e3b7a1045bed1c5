"""Accounts of one market as portfolios: what every engine margins, made from a whole book."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.account_problems import AccountProblems, find_price, sound_numbers
from margin.listing import POST_IT, Listing, list_instruments
from margin.portfolios import OPTION, Pledges, Portfolios
from margin.rows import row_sums
from margin.ruleset import CollateralRules
from margin.view import MarketView
from market.book import Book

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BookPortfolios:
    """The portfolios of N accounts with P positions and B balances.

    Attributes
    ----------
    portfolios:
        One for each account, all on the same underlyings and expiries; empty for an account with
        a problem, whose positions have ``position_leg`` −1.
    problems:
        Why an account has none, by its index.
    symbol:
        Row of each position's underlying in the view's symbols, shape (P,); −1 where it cannot be
        valued.
    option:
        Whether each position is an option, shape (P,).
    age_hours:
        Of the quotes that an option's forward and vol come from, shape (P,); 0 for others.
    unrealised:
        Profit and loss of each position, shape (P,); 0 for options, which count at their value.
    balance_symbol:
        Row of each asset's price in the view's symbols, shape (B,); −1 for cash, and where there
        is no price.
    balance_value, balance_haircut:
        Value before haircuts, NaN where there is no price, and maintenance haircut, shape (B,).
    """

    portfolios: Portfolios
    problems: AccountProblems
    symbol: Ints
    option: Bools
    age_hours: Floats
    unrealised: Floats
    balance_symbol: Ints
    balance_value: Floats
    balance_haircut: Floats


def book_portfolios(
    book: Book,
    view: MarketView,
    rules: CollateralRules,
    problems: AccountProblems | None = None,
) -> BookPortfolios:
    """The portfolios of a book.

    Positions of an account in the same instrument are netted and stand in the canonical order of
    `Portfolios`. Spot, perps and options are found and priced as `margin.listing` says; a missing
    entry price means entry at the price. Asset X is worth the mark of XUSDT at the confidence of
    that symbol's quote, a cash asset 1. The settlement currency's coin is worth what is quoted of
    the first cash asset that is, else 1.

    Errors are per account, in `problems`: an unknown, unquoted or expired instrument or an asset
    without a price (`InstrumentError`, naming it), a number that is not finite (`DataError`).
    """
    problems = AccountProblems(book)
    cash_assets = frozenset(rules.cash_assets)
    assets = [asset for asset in dict.fromkeys(book.balance_asset) if asset not in cash_assets]
    listing = list_instruments(book.leg_instrument, assets, view)
    numbers = sound_numbers(book)
    row = np.array([listing.row[name] for name in book.leg_instrument], dtype=np.int64)
    valued = listing.valued[row] & numbers
    problems.of_positions(~valued, listing.reasons)
    balances = _Balances.of(book, view, rules, listing)
    problems.of_balances(~balances.valued, balances.reasons)
    stable = _stable_price(view, rules)
    if not 0.0 < stable < math.inf:
        for i in range(len(book)):
            problems.of_account(
                i, f"the settlement currency's coin is quoted at {stable}; {POST_IT}"
            )

    entry = book.leg_entry_price
    price = listing.price[row]
    with np.errstate(over="ignore", invalid="ignore"):  # found with the figures
        unrealised = book.leg_quantity * (price - np.where(np.isnan(entry), price, entry))
    option = listing.kind[row] == OPTION
    unrealised = np.where(option, 0.0, unrealised)
    sound = np.ones(len(book), dtype=np.bool_)
    sound[list(problems.found)] = False
    portfolios = _netted(book, row, unrealised, sound, listing, stable)
    return BookPortfolios(
        dataclasses.replace(portfolios, pledges=balances.pledges(sound)),
        problems,
        np.where(valued, listing.symbol[row], -1),
        option,
        listing.age_hours[row],
        unrealised,
        balances.symbol,
        balances.value(stable),
        np.where(balances.all.cash, 0.0, balances.all.maintenance_haircut),
    )


def take_portfolios(portfolios: Portfolios, accounts: Ints) -> Portfolios:
    """Some portfolios, in the order given, with the underlyings and expiries of all.

    `position_leg` is then one position for each leg.
    """
    start, legs = _take_rows(portfolios.start, accounts)
    pledges = portfolios.pledges
    pledge_start, rows = _take_rows(pledges.start, accounts)
    return dataclasses.replace(
        portfolios,
        cash=portfolios.cash[accounts],
        stable_price=portfolios.stable_price[accounts],
        start=start,
        name=tuple([portfolios.name[leg] for leg in legs.tolist()]),
        **{
            key: getattr(portfolios, key)[legs]
            for key in (
                *("kind", "underlying", "expiry", "quantity", "strike", "vol", "call"),
                "unrealised",
            )
        },
        position_leg=np.arange(len(legs)),
        pledges=_take_pledges(pledges, pledge_start, rows),
    )


def _netted(
    book: Book, row: Ints, unrealised: Floats, sound: Bools, listing: Listing, stable: float
) -> Portfolios:
    """Positions of each sound account, one leg an instrument; no collateral yet."""
    n = len(book)
    owner = np.repeat(np.arange(n), np.diff(book.leg_start))
    kept = np.flatnonzero(sound[owner])
    place = owner[kept] * (len(listing.rank) + 1) + listing.rank[row[kept]]
    # By quantity and profit too, so that the order in which positions come changes no sum.
    order = np.lexsort((unrealised[kept], book.leg_quantity[kept], place))
    kept, place = kept[order], place[order]
    first = np.ones(len(kept), dtype=np.bool_)
    first[1:] = place[1:] != place[:-1]
    runs = np.append(np.flatnonzero(first), len(kept))
    position_leg = np.full(len(row), -1, dtype=np.int64)
    position_leg[kept] = np.cumsum(first) - 1
    leg = row[kept[first]]
    start = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner[kept[first]], minlength=n), out=start[1:])
    names = list(listing.row)
    return Portfolios(
        cash=np.where(sound, book.cash, 0.0),
        stable_price=np.full(n, stable),
        start=start,
        name=tuple([names[k] for k in leg.tolist()]),
        kind=listing.kind[leg],
        underlying=listing.underlying[leg],
        expiry=listing.expiry[leg],
        quantity=row_sums(runs, book.leg_quantity[kept]),
        strike=listing.strike[leg],
        vol=listing.vol[leg],
        call=listing.call[leg],
        unrealised=row_sums(runs, unrealised[kept]),
        position_leg=position_leg,
        underlyings=listing.underlyings,
        expiries=listing.expiries,
        pledges=_no_pledges(n),
    )


@dataclass(frozen=True, slots=True)
class _Balances:
    """The collateral of a book; `symbol` is −1 for cash and where there is no price."""

    start: Ints
    valued: Bools
    symbol: Ints
    reasons: dict[str, str]
    all: Pledges

    @classmethod
    def of(
        cls, book: Book, view: MarketView, rules: CollateralRules, listing: Listing
    ) -> _Balances:
        names = tuple(dict.fromkeys(book.balance_asset))
        place = {name: i for i, name in enumerate(names)}
        row = np.array([place[name] for name in book.balance_asset], dtype=np.int64)
        cash = np.array([name in rules.cash_assets for name in names], dtype=np.bool_)
        symbols, reasons = np.full(len(names), -1, dtype=np.int64), {}
        price, confidence = np.ones(len(names)), np.ones(len(names))
        index = view.index()
        for i, name in enumerate(names):
            if cash[i]:
                continue
            symbols[i], reason = find_price(name, f"{name}USDT", view, index)
            if reason:
                reasons[name] = reason
                continue
            price[i] = view.mark[symbols[i]]
            quote = None if view.quotes is None else view.quotes.instruments.get(f"{name}USDT")
            confidence[i] = 1.0 if quote is None else quote.confidence
        known = np.array([name not in reasons for name in names], dtype=np.bool_)
        haircut = np.array([rules.haircut(name) for name in names], dtype=np.float64)
        symbol = symbols[row]
        on = {s: i for i, s in enumerate(_symbols_of(listing, view))}
        return cls(
            start=book.balance_start,
            valued=known[row] & np.isfinite(book.balance_amount),
            symbol=symbol,
            reasons=reasons,
            all=Pledges(
                start=book.balance_start,
                asset=book.balance_asset,
                underlying=np.array([on.get(s, -1) for s in symbol.tolist()], dtype=np.int64),
                amount=book.balance_amount,
                price=price[row],
                confidence=confidence[row],
                maintenance_haircut=haircut[row],
                initial_haircut=haircut[row],
                risk_cancelling=np.zeros(len(row), dtype=np.bool_),
                cash=cash[row],
            ),
        )

    def value(self, stable: float) -> Floats:
        """Before haircuts, shape (B,); NaN where there is no price."""
        own = self.all
        known = np.where(own.cash | (self.symbol >= 0), own.amount, np.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(own.cash, known, known * own.price / stable)

    def pledges(self, sound: Bools) -> Pledges:
        """Those of the sound accounts."""
        if sound.all():
            return self.all
        counts = np.where(sound, np.diff(self.start), 0)
        start = np.zeros(len(self.start), dtype=np.int64)
        np.cumsum(counts, out=start[1:])
        return _take_pledges(self.all, start, np.flatnonzero(np.repeat(sound, np.diff(self.start))))


def _symbols_of(listing: Listing, view: MarketView) -> list[int]:
    """Row of each underlying's symbol in the view."""
    index = view.index()
    return [
        index[name] if name in index else index[f"{name}USDT"] for name in listing.underlyings.name
    ]


def _stable_price(view: MarketView, rules: CollateralRules) -> float:
    if view.quotes is None:
        return 1.0
    quotes = (view.quotes.instruments.get(asset) for asset in rules.cash_assets)
    marks = (quote.mark for quote in quotes if quote is not None)
    return next((mark for mark in marks if mark is not None), 1.0)


def _take_rows(start: Ints, accounts: Ints) -> tuple[Ints, Ints]:
    """Offsets and entries of some rows of a sparse matrix."""
    counts = start[accounts + 1] - start[accounts]
    out = np.zeros(len(accounts) + 1, dtype=np.int64)
    np.cumsum(counts, out=out[1:])
    return out, np.arange(out[-1]) + np.repeat(start[accounts] - out[:-1], counts)


def _take_pledges(pledges: Pledges, start: Ints, rows: Ints) -> Pledges:
    columns = (field.name for field in dataclasses.fields(Pledges))
    return Pledges(
        start=start,
        asset=tuple([pledges.asset[b] for b in rows.tolist()]),
        **{key: getattr(pledges, key)[rows] for key in columns if key not in ("start", "asset")},
    )


def _no_pledges(n: int) -> Pledges:
    nothing, no, nowhere = np.empty(0), np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.int64)
    return Pledges(
        start=np.zeros(n + 1, dtype=np.int64),
        asset=(),
        underlying=nowhere,
        amount=nothing,
        price=nothing,
        confidence=nothing,
        maintenance_haircut=nothing,
        initial_haircut=nothing,
        risk_cancelling=no,
        cash=no,
    )
