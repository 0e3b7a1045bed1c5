"""Accounts of one market as portfolios: what every engine margins, made from a whole book."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.account_errors import AccountProblems, sound_numbers
from margin.book.book_collateral import Balances, find_balances, take_pledges
from margin.book.portfolio_batch import OPTION, CollateralBalances, Portfolios
from margin.book.segment_sums import row_sums
from margin.rules.ruleset import CollateralRules
from margin.valuation.instrument_table import Listing, list_instruments
from margin.valuation.marks import POST_IT, MarketMarks
from margin.valuation.view import MarketView
from market.accounts.book import Book

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
        a problem. The positions of those are none of theirs.
    problems:
        Why an account has none, by its index.
    position_leg:
        Leg of each position of the book, shape (P,); −1 where its account has a problem.
    marks:
        The prices of the market.
    listing:
        The instruments of the book.
    position_row:
        Row of each position in `listing`, shape (P,).
    valued:
        Whether each position can be valued, shape (P,).
    unrealised:
        Profit and loss of each position, shape (P,); 0 for options, which count at their value.
    balances:
        The collateral.
    stable_price:
        Of the settlement currency's coin.
    """

    portfolios: Portfolios
    problems: AccountProblems
    position_leg: Ints
    marks: MarketMarks
    listing: Listing
    position_row: Ints
    valued: Bools
    unrealised: Floats
    balances: Balances
    stable_price: float

    @property
    def symbol(self) -> Ints:
        """Row of each position's underlying in the view's symbols, shape (P,); −1 where it cannot
        be valued."""
        return np.where(self.valued, self.listing.symbol[self.position_row], -1)

    @property
    def option(self) -> Bools:
        """Whether each position is an option, shape (P,)."""
        return np.equal(self.listing.kind[self.position_row], OPTION)


def book_portfolios(
    book: Book,
    view: MarketView,
    rules: CollateralRules,
    problems: AccountProblems | None = None,
    *,
    options: bool = True,
) -> BookPortfolios:
    """The portfolios of a book.

    Positions of an account in the same instrument are netted and stand in the canonical order of
    `Portfolios`. Spot, perps and options are found and priced as
    `margin.valuation.instrument_table` says; a missing entry price means entry at the price. Asset
    X is worth the mark of XUSDT at the confidence of that symbol's quote, a cash asset 1. The
    settlement currency's coin is worth what is quoted of the first cash asset that is, however
    long ago, else 1. Without `options` an option is an account's problem.

    Errors are per account, in `problems`: an unknown, unquoted or expired instrument or an asset
    without a price (`InstrumentError`, naming it), a number that is not finite (`DataError`).
    Accounts that the given `problems` blame already are left out too.
    """
    problems = AccountProblems(book) if problems is None else problems
    marks = MarketMarks(view)
    assets = [asset for asset in dict.fromkeys(book.balance_asset) if not rules.is_cash(asset)]
    listing = list_instruments(book.leg_instrument, assets, view, marks, options=options)
    numbers = sound_numbers(book)
    legs = len(book.leg_instrument)
    row = np.fromiter(map(listing.row.__getitem__, book.leg_instrument), np.int64, legs)
    valued = listing.valued[row] & numbers
    problems.of_positions(~valued, listing.reasons)
    quotes = {} if view.quotes is None else view.quotes.instruments
    balances = find_balances(book, marks, quotes, rules, listing, row)
    problems.of_balances(~balances.valued, balances.assets.reasons)
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
    pledges = balances.of_accounts(sound)
    portfolios, leg = _netted(book, row, unrealised, sound, listing, stable, pledges)
    return BookPortfolios(
        dataclasses.replace(portfolios, history=view.daily),
        problems,
        leg,
        marks,
        listing,
        row,
        valued,
        unrealised,
        balances,
        stable,
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
        pledges=take_pledges(pledges, pledge_start, rows),
    )


def _netted(
    book: Book,
    row: Ints,
    unrealised: Floats,
    sound: Bools,
    listing: Listing,
    stable: float,
    pledges: CollateralBalances,
) -> tuple[Portfolios, Ints]:
    """Positions of each sound account, one leg an instrument; and the leg of each position."""
    n = len(book)
    owner = np.repeat(np.arange(n), np.diff(book.leg_start))
    kept = np.flatnonzero(sound[owner])
    place = owner[kept] * (len(listing.rank) + 1) + listing.rank[row[kept]]
    order = np.argsort(place, kind="stable")
    first = np.ones(len(kept), dtype=np.bool_)
    first[1:] = place[order[1:]] != place[order[:-1]]
    kept = kept[order]
    if not first.all():
        # Lines of one instrument by quantity and profit, so that their order changes no sum.
        run = np.cumsum(first) - 1
        several = np.flatnonzero(np.bincount(run)[run] > 1)
        lines = kept[several]
        by_size = np.lexsort((unrealised[lines], book.leg_quantity[lines], run[several]))
        kept[several] = lines[by_size]
    runs = np.append(np.flatnonzero(first), len(kept))
    position_leg = np.full(len(row), -1, dtype=np.int64)
    position_leg[kept] = np.cumsum(first) - 1
    leg = row[kept[first]]
    start = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner[kept[first]], minlength=n), out=start[1:])
    names = np.array([*listing.row, ""], dtype=object)
    portfolios = Portfolios(
        cash=np.where(sound, book.cash, 0.0),
        stable_price=np.full(n, stable),
        start=start,
        name=tuple(names[leg].tolist()),
        kind=listing.kind[leg],
        underlying=listing.underlying[leg],
        expiry=listing.expiry[leg],
        quantity=row_sums(runs, book.leg_quantity[kept]),
        strike=listing.strike[leg],
        vol=listing.vol[leg],
        call=listing.call[leg],
        unrealised=row_sums(runs, unrealised[kept]),
        position_leg=position_leg[position_leg >= 0],
        underlyings=listing.underlyings,
        expiries=listing.expiries,
        pledges=pledges,
    )
    return portfolios, position_leg


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
