"""Equity, margins and headroom of every account of a book under one rule set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from margin.book.account_requirement import Collateral, OptionLegs, Requirement
from margin.book.book_portfolios import AccountErrors, book_portfolios
from margin.book.portfolio_batch import (
    OPTION,
    Portfolios,
    row_sums,
)
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins, engine_of
from margin.rules.ruleset import RuleSet
from margin.valuation.exposures import leg_exposures
from margin.valuation.view import MarketView
from market.accounts.book import Book
from market.core.arrays import Floats, Ints
from market.core.errors import BatchError, CaseError, DataError, InstrumentError, RuleSetError

__all__ = ["Requirement", "compute_requirement"]


def compute_requirement(book: Book, view: MarketView, ruleset: RuleSet) -> Requirement:
    """Apply a rule set to a book by its engine.

    ``equity = cash + unrealised profit of spot and perps + options at their full mark + collateral
    as it counts for maintenance``; the margins are those of `margin.engines.margins.Margins`,
    summed apart from equity, and ``headroom = equity - maintenance margin``. Positions in one leg
    share its margin by quantity. A negative collateral balance is a debt and counts in full: a
    haircut never makes a debt smaller.

    Errors are per account, in `Requirement.problems`: unknown instrument or asset, missing
    price, an option where the engine has none, open interest that is not quoted and that the
    margin depends on (`InstrumentError`), a number that is not finite, or figures too large for
    float64 (`DataError`).

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
    errors = AccountErrors(book)
    portfolios, margins = _compute_margins(book, view, ruleset, errors)
    entries = portfolios.entries
    row, instruments = entries.position_row, entries.instruments
    exposures = leg_exposures(portfolios, discounted=engine.discounts_options)
    share = _leg_shares(portfolios, entries.position_leg, book.leg_quantity)

    def by_position(values: Floats) -> Floats:
        return _spread(values, entries.position_leg, share)

    option = np.equal(instruments.kind[row], OPTION)
    options = None
    if option.any():
        options = OptionLegs(
            option,
            by_position(exposures.value),
            by_position(exposures.gamma),
            by_position(exposures.vega),
            instruments.quote_age_hours[row],
        )
    notional = by_position(exposures.delta)
    maintenance = by_position(margins.leg_maintenance)
    start = book.leg_start
    with np.errstate(over="ignore", invalid="ignore"):
        figures = (
            margins.equity,
            margins.initial_margin,
            margins.maintenance_margin,
            margins.maintenance_net,
            row_sums(start, np.abs(notional)),
        )
        checked = [*figures, row_sums(start, np.abs(maintenance))]
        if options is not None:
            checked.append(row_sums(start, np.abs(options.gamma) + np.abs(options.vega)))
    _check_figures(checked, errors)
    return Requirement(
        *figures,
        leg_start=start,
        leg_symbol=entries.position_symbol,
        leg_notional=notional,
        leg_unrealised_pnl=entries.unrealised,
        leg_initial_margin=by_position(margins.leg_initial),
        leg_maintenance_margin=maintenance,
        leg_age_hours=instruments.price_age_hours[row],
        leg_suspect=instruments.suspect[row],
        problems=errors.first,
        collateral=_collateral_of(portfolios, ruleset),
        options=options,
        priced=portfolios,
    )


def _compute_margins(
    book: Book, view: MarketView, ruleset: RuleSet, errors: AccountErrors
) -> tuple[Portfolios, Margins]:
    """The portfolios of a book and their margins; accounts that the engine refuses get an error."""
    options = engine_of(ruleset).margins_options
    portfolios = book_portfolios(book, view, ruleset.collateral, errors, options=options)
    try:
        return portfolios, compute_margins(portfolios, ruleset)
    except (DataError, CaseError):
        _isolate_failures(portfolios, ruleset, errors)
    portfolios = book_portfolios(book, view, ruleset.collateral, errors, options=options)
    return portfolios, compute_margins(portfolios, ruleset)


def _isolate_failures(portfolios: Portfolios, ruleset: RuleSet, errors: AccountErrors) -> None:
    """Find the accounts that the engine refuses, and why, by halves."""
    filled = np.diff(portfolios.start) + np.diff(portfolios.collateral.start)
    groups = [np.flatnonzero(filled)]
    while groups:
        accounts = groups.pop()
        try:
            compute_margins(portfolios.take(accounts), ruleset)
        except BatchError as error:
            for i, cause in error.by_account.items():
                errors.add(int(accounts[i]), str(cause), cause.instrument)
            groups.append(np.delete(accounts, list(error.by_account)))
        except (DataError, CaseError) as error:
            if len(accounts) > 1:
                half = len(accounts) // 2
                groups += [accounts[:half], accounts[half:]]
                continue
            name = error.instrument if isinstance(error, InstrumentError) else None
            errors.add(int(accounts[0]), str(error), name)


def _leg_shares(portfolios: Portfolios, leg: Ints, quantity: Floats) -> Floats | None:
    """Share of each position in its leg, by quantity, shape (P,); None where all are whole legs.

    1 where a position is alone in its leg, 0 in a leg of quantity 0.
    """
    if not len(portfolios.quantity):
        return None
    whole = portfolios.quantity[leg]
    same = quantity == whole
    if (same | (leg < 0)).all():
        return None
    share = np.where(same, 1.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(quantity, whole, out=share, where=~same & (whole != 0.0))
    return share


def _spread(values: Floats, leg: Ints, share: Floats | None) -> Floats:
    """Share of each position in a figure of its leg, NaN where it has no leg, shape (P,)."""
    if not len(values):
        return np.full(len(leg), np.nan)
    portions = values[leg]
    if share is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            portions *= share
    portions[leg < 0] = np.nan
    return portions


def _collateral_of(portfolios: Portfolios, ruleset: RuleSet) -> Collateral:
    balances, symbol = portfolios.entries.balances, portfolios.entries.balance_symbol
    owner = np.repeat(np.arange(len(portfolios)), np.diff(balances.start))
    with np.errstate(over="ignore", invalid="ignore"):
        value = balances.amount * balances.price / portfolios.stable_price[owner]
    value = np.where(balances.cash, balances.amount, value)
    return Collateral(
        balances.start,
        symbol,
        np.where(balances.valued(), value, np.nan),
        engine_of(ruleset).collateral_haircuts(balances, portfolios.underlyings, ruleset),
        balances.maintenance_premium,
    )


def _check_figures(figures: Sequence[Floats], errors: AccountErrors) -> None:
    """Add the accounts whose figures are not finite, and clear the figures of all with an error."""
    finite = np.logical_and.reduce([np.isfinite(figure) for figure in figures])
    for i in np.flatnonzero(~finite).tolist():
        errors.add(i, "its figures exceed what float64 can hold; check its sizes")
    for figure in figures:
        figure[list(errors.first)] = np.nan
