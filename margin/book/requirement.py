"""Equity, margins and headroom of every account of a book under one rule set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

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
    start = book.leg_start
    positions = _Positions(start, book.leg_quantity, entries.position_leg, portfolios.quantity)
    notional, gross = _by_position(positions, exposures.delta)
    maintenance, gross_maintenance = _by_position(positions, margins.leg_maintenance)
    initial, _ = _by_position(positions, margins.leg_initial)
    figures = (
        margins.equity,
        margins.initial_margin,
        margins.maintenance_margin,
        margins.maintenance_net,
        gross,
    )
    checked = [*figures, gross_maintenance]
    option = np.equal(instruments.kind[row], OPTION)
    options = None
    if option.any():
        value, gamma, vega = (
            _by_position(positions, values)[0]
            for values in (exposures.value, exposures.gamma, exposures.vega)
        )
        options = OptionLegs(option, value, gamma, vega, instruments.quote_age_hours[row])
        with np.errstate(over="ignore", invalid="ignore"):
            checked.append(row_sums(start, np.abs(gamma) + np.abs(vega)))
    _check_figures(checked, errors)
    return Requirement(
        *figures,
        leg_start=start,
        leg_symbol=entries.position_symbol,
        leg_notional=notional,
        leg_unrealised_pnl=entries.unrealised,
        leg_initial_margin=initial,
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


class _Positions(NamedTuple):
    """P positions of N accounts and the legs that they are netted into.

    Attributes
    ----------
    start:
        Offsets of the accounts, shape (N + 1,).
    quantity, leg:
        Of each position, shape (P,); leg −1 where it has none.
    leg_quantity:
        Of each leg, shape (L,).
    """

    start: Ints
    quantity: Floats
    leg: Ints
    leg_quantity: Floats


@njit(cache=True, error_model="numpy")
def _by_position(positions, values):  # type: ignore[no-untyped-def]
    """Share of each position in a figure of its leg, and the sum of their sizes by account.

    The share is by quantity: 1 where a position is alone in its leg, 0 in a leg of quantity 0.

    Parameters
    ----------
    positions:
        `_Positions`.
    values:
        Of the legs, shape (L,).

    Returns
    -------
    Shapes (P,), NaN where a position has no leg, and (N,).
    """
    out = np.empty(len(positions.leg))
    sums = np.zeros(len(positions.start) - 1)
    for i in range(len(sums)):
        for p in range(positions.start[i], positions.start[i + 1]):
            leg = positions.leg[p]
            if leg < 0:
                out[p] = np.nan
            else:
                whole, part = positions.leg_quantity[leg], positions.quantity[p]
                out[p] = values[leg]
                if part != whole:
                    out[p] *= part / whole if whole != 0.0 else 0.0
            sums[i] += abs(out[p])
    return out, sums


def _collateral_of(portfolios: Portfolios, ruleset: RuleSet) -> Collateral:
    balances, symbol = portfolios.entries.balances, portfolios.entries.balance_symbol
    if not len(symbol):
        nothing = np.zeros(0)
        return Collateral(balances.start, symbol, nothing, nothing, balances.maintenance_premium)
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
    if errors.first:
        for figure in figures:
            figure[list(errors.first)] = np.nan
