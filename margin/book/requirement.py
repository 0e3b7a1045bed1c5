"""Equity, margins and headroom of every account of a book under one rule set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.account_errors import AccountProblems
from margin.book.account_figures import AccountFigures, Collateral, LegPrices, OptionLegs
from margin.book.book_margins import BookMargins, book_margins
from margin.book.book_portfolios import BookPortfolios
from margin.book.segment_sums import row_sums
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Book

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requirement(AccountFigures):
    """What the rules say about N accounts with L positions, settlement currency.

    Attributes
    ----------
    leg_unrealised_pnl, leg_initial_margin, leg_maintenance_margin:
        Shape (L,). The unrealised profit of an option is 0: it counts at its value.
    margined:
        What the engine said.
    """

    leg_unrealised_pnl: Floats
    leg_initial_margin: Floats
    leg_maintenance_margin: Floats
    margined: BookMargins


def compute_requirement(book: Book, view: MarketView, ruleset: RuleSet) -> Requirement:
    """Apply a rule set to a book, whatever its engine, as `margin.book.book_margins` says.

    A negative collateral balance is a debt and counts in full: a haircut never makes a debt
    smaller.

    Errors are per account, in `AccountFigures.problems`: unknown instrument or asset, missing
    price, an option where the engine has none, open interest that is not quoted and that the
    margin depends on (`InstrumentError`), a number that is not finite, or figures too large for
    float64 (`DataError`).
    """
    found = book_margins(book, view, ruleset)
    own, held = found.position_exposures, found.book
    with np.errstate(over="ignore", invalid="ignore"):
        gross = row_sums(book.leg_start, np.abs(own.delta))
        charged = row_sums(book.leg_start, np.abs(found.position_maintenance))
        curved = row_sums(book.leg_start, np.abs(own.gamma) + np.abs(own.vega))
    figures = (
        found.equity,
        found.initial_margin,
        found.maintenance_margin,
        found.headroom,
        gross,
    )
    _check_figures((*figures, charged, curved), held.problems)
    row, listing = held.position_row, held.listing
    options = None
    if held.option.any():
        age = listing.quote_age_hours[row]
        options = OptionLegs(held.option, own.value, own.gamma, own.vega, age)
    return Requirement(
        *figures,
        leg_start=book.leg_start,
        leg_symbol=held.symbol,
        leg_notional=own.delta,
        leg_prices=LegPrices(listing.price_age_hours[row], listing.suspect[row]),
        leg_unrealised_pnl=held.unrealised,
        leg_initial_margin=found.position_initial,
        leg_maintenance_margin=found.position_maintenance,
        problems=held.problems.found,
        collateral=_collateral_of(held, ruleset),
        options=options,
        margined=found,
    )


def _collateral_of(held: BookPortfolios, ruleset: RuleSet) -> Collateral:
    balances, pledges = held.balances, held.balances.pledges
    return Collateral(
        pledges.start,
        balances.symbol,
        balances.value(held.stable_price),
        engine_of(ruleset).collateral_haircuts(pledges, held.portfolios.underlyings, ruleset),
        pledges.maintenance_premium,
    )


def _check_figures(figures: Sequence[Floats], problems: AccountProblems) -> None:
    """Name the accounts whose figures are not finite, and clear those of all with a problem."""
    finite = np.logical_and.reduce([np.isfinite(figure) for figure in figures])
    for i in np.flatnonzero(~finite):
        problems.of_account(int(i), "its figures exceed what float64 can hold; check its sizes")
    for figure in figures:
        figure[list(problems.found)] = np.nan
