"""Margins of a book of accounts by whatever engine its rule set names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.account_errors import AccountProblems
from margin.book.book_portfolios import BookPortfolios, book_portfolios, take_portfolios
from margin.book.portfolio_batch import Portfolios
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins, engine_of
from margin.rules.ruleset import RuleSet
from margin.valuation.exposures import Exposures, leg_exposures
from margin.valuation.view import MarketView
from market.accounts.book import Book
from market.core.errors import BatchError, CaseError, DataError, InstrumentError, RuleSetError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BookMargins:
    """What an engine says of N accounts with P positions, settlement currency.

    Attributes
    ----------
    book:
        The accounts as portfolios, with their problems.
    margins:
        The engine's answer.
    exposures:
        Of the legs of ``book.portfolios``.
    equity, initial_margin, maintenance_margin, headroom:
        See `margin.book.requirement.Requirement`, shape (N,); of an account with a problem they
        mean nothing.
    position_initial, position_maintenance:
        What each position takes, shape (P,).
    position_exposures:
        Of each position, shape (P,); NaN where its account has a problem, but value, gamma and
        vega are 0 where no position is an option.
    """

    book: BookPortfolios
    margins: Margins
    exposures: Exposures
    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    headroom: Floats
    position_initial: Floats
    position_maintenance: Floats
    position_exposures: Exposures


def book_margins(book: Book, view: MarketView, ruleset: RuleSet) -> BookMargins:
    """Margin a book by the engine of its rule set.

    ``equity = cash + unrealised profit of spot and perps + options at their full mark + collateral
    as it counts for maintenance``; the margins are those of `margin.engines.margins.Margins`,
    summed apart from equity, and ``headroom = equity - maintenance margin``. Positions in one leg
    share its margin by quantity.

    Errors are per account, in ``book.problems``: those of `margin.book.book_portfolios` and what
    the engine refuses.

    Raises
    ------
    RuleSetError
        The rules settle in coin, and what an account of a book has is in the settlement currency.
    """
    engine = engine_of(ruleset)
    if engine.settles_in_coin(ruleset):
        raise RuleSetError(
            f"rule set {ruleset.name!r} settles in coin, and accounts here are in the settlement "
            'currency; choose rules that settle in "quote", or margin single cases with '
            "margincast margin --cases"
        )
    options = engine.margins_options
    held = book_portfolios(book, view, ruleset.collateral, options=options)
    with np.errstate(over="ignore", invalid="ignore"):  # found with the figures
        try:
            margins = compute_margins(held.portfolios, ruleset)
        except (DataError, CaseError):
            _isolate_failures(held.portfolios, ruleset, held.problems)
            held = book_portfolios(book, view, ruleset.collateral, held.problems, options=options)
            margins = compute_margins(held.portfolios, ruleset)
        exposures = leg_exposures(held.portfolios, discounted=engine.discounts_options)
        headroom = margins.maintenance_net
    shares = _LegShares.of(held, book.leg_quantity)
    greeks = [exposures.value, exposures.gamma, exposures.vega]
    nothing = np.zeros(len(book.leg_quantity))
    optional = [shares.spread(one) if held.option.any() else nothing for one in greeks]
    return BookMargins(
        book=held,
        margins=margins,
        exposures=exposures,
        equity=margins.equity,
        initial_margin=margins.initial_margin,
        maintenance_margin=margins.maintenance_margin,
        headroom=headroom,
        position_initial=shares.spread(margins.leg_initial),
        position_maintenance=shares.spread(margins.leg_maintenance),
        position_exposures=Exposures(shares.spread(exposures.delta), *optional),
    )


@dataclass(frozen=True, slots=True)
class _LegShares:
    """Leg of each position, −1 where there is none, and its share in it; None where all have the
    whole leg."""

    leg: Ints
    share: Floats | None

    @classmethod
    def of(cls, held: BookPortfolios, quantity: Floats) -> _LegShares:
        """By quantity: 1 where a position is alone in its leg, 0 in a leg of quantity 0."""
        legs, leg = held.portfolios.quantity, held.position_leg
        if not len(legs):
            return cls(leg, None)
        whole = legs[leg]
        same = quantity == whole
        if (same | (leg < 0)).all():
            return cls(leg, None)
        share = np.where(same, 1.0, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            np.divide(quantity, whole, out=share, where=~same & (whole != 0.0))
        return cls(leg, share)

    def spread(self, values: Floats) -> Floats:
        """What each position has of a figure of the legs, NaN where it has none, shape (P,)."""
        if not len(values):
            return np.full(len(self.leg), np.nan)
        own = values[self.leg]
        if self.share is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                own *= self.share
        own[self.leg < 0] = np.nan
        return own


def _isolate_failures(portfolios: Portfolios, ruleset: RuleSet, problems: AccountProblems) -> None:
    """Find the accounts that the engine refuses, and why, by halves."""
    asked = [np.flatnonzero(np.diff(portfolios.start) + np.diff(portfolios.pledges.start))]
    while asked:
        accounts = asked.pop()
        try:
            compute_margins(take_portfolios(portfolios, accounts), ruleset)
        except BatchError as error:
            for i, cause in error.by_account.items():
                problems.of_instrument(int(accounts[i]), cause.instrument, str(cause))
            asked.append(np.delete(accounts, list(error.by_account)))
        except (DataError, CaseError) as error:
            if len(accounts) > 1:
                half = len(accounts) // 2
                asked += [accounts[:half], accounts[half:]]
                continue
            name = error.instrument if isinstance(error, InstrumentError) else None
            problems.of_instrument(int(accounts[0]), name, str(error))
