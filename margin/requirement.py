"""Equity, margins and headroom of every account of a book under one rule set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.account_problems import AccountProblems, find_price, sound_numbers
from margin.book_margins import BookMargins, book_margins, collateral_haircuts
from margin.book_portfolios import BookPortfolios
from margin.rows import row_sums
from margin.ruleset import RuleSet
from margin.tier import TierTable, brackets_alone
from margin.view import MarketView
from market.book import Book
from market.errors import DataError, InstrumentError
from market.instruments import parse_instrument

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_Found = tuple[int, str]
"""Row in the view, or -1 and the reason why there is none."""


@dataclass(frozen=True, slots=True)
class Collateral:
    """B balances of N accounts.

    Attributes
    ----------
    start:
        Offsets of each account's balances, shape (N + 1,).
    symbol:
        Row of each asset's price in the view's symbols, shape (B,); −1 for a cash asset, and
        where there is no price.
    value:
        Amount at the mark, before haircuts, settlement currency, shape (B,); negative for a
        debt, NaN where there is no price.
    haircut:
        Share of a positive value that does not count, shape (B,); 0 for cash assets.
    premium:
        Share of a debt that is asked on top of it, shape (B,); None where no debt asks any.
    """

    start: Ints
    symbol: Ints
    value: Floats
    haircut: Floats
    premium: Floats | None = None

    def counted(self) -> Floats:
        """What each balance counts for, shape (B,): a debt in full, and with its premium."""
        debt = self.value if self.premium is None else self.value * (1.0 + self.premium)
        return np.where(self.value < 0, debt, self.value * (1.0 - self.haircut))


@dataclass(frozen=True, slots=True)
class OptionLegs:
    """What L positions are beyond their delta exposure, every array of shape (L,).

    Attributes
    ----------
    option:
        Whether it is an option.
    value, gamma, vega:
        Settlement currency, see `margin.exposures.Exposures`: 0 of spot and perps, NaN where a
        position cannot be valued.
    age_hours:
        Since the older of the quotes that an option's forward and vol come from; 0 for others.
    """

    option: npt.NDArray[np.bool_]
    value: Floats
    gamma: Floats
    vega: Floats
    age_hours: Floats


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the rules say about N accounts with L positions, settlement currency.

    Attributes
    ----------
    equity:
        Cash + collateral after haircuts + unrealised profit and loss, shape (N,).
    initial_margin, maintenance_margin:
        Shape (N,).
    headroom:
        ``equity - maintenance_margin``, shape (N,).
    gross_notional:
        Sum of absolute `leg_notional`, shape (N,): options with their delta exposure.
    leg_start:
        Offsets of each account's positions, shape (N + 1,).
    leg_symbol:
        Row of each position in the view's symbols, −1 where it cannot be valued, shape (L,).
    leg_notional:
        Signed, shape (L,); NaN where it cannot be valued: quantity times mark of spot and perps,
        the delta exposure of an option (`margin.exposures.Exposures.delta`), which is what hedges
        it in its underlying.
    leg_unrealised_pnl, leg_initial_margin, leg_maintenance_margin:
        Shape (L,). The unrealised profit of an option is 0: it counts at its value.
    problems:
        Why an account has no figures, by its index: the first thing found wrong with it. All
        its figures are NaN; the other accounts are not touched.
    collateral:
        The balances inside `equity`; None where whoever made this was not told.
    options:
        What positions are beyond their exposure; None where there is no option among them.
    margined:
        What the engine said; None under brackets by symbol, where the legs say it all.
    """

    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    headroom: Floats
    gross_notional: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_notional: Floats
    leg_unrealised_pnl: Floats
    leg_initial_margin: Floats
    leg_maintenance_margin: Floats
    problems: dict[int, DataError]
    collateral: Collateral | None = None
    options: OptionLegs | None = None
    margined: BookMargins | None = None

    def __len__(self) -> int:
        return len(self.equity)


def compute_requirement(book: Book, view: MarketView, ruleset: RuleSet) -> Requirement:
    """Apply a rule set to a book: brackets alone as below, all else as `margin.book_margins` says.

    ``equity = cash + sum(amount * price * (1 - haircut)) + sum(quantity * (mark - entry))``, a
    NaN entry meaning entry at the mark; margins are tier margins of each position on its own
    (a venue nets an instrument into one position before). A negative collateral balance is a
    debt and counts in full: a haircut never makes a debt smaller.

    Errors are per account, in `Requirement.problems`: unknown instrument or asset, missing
    price, option under a tier rule set, open interest that is not quoted and that the margin
    depends on (`InstrumentError`), a number that is not finite, or figures too large for float64
    (`DataError`).

    References
    ----------
    Binance, "Leverage and Margin of USD-M Futures".
    """
    if not brackets_alone(ruleset):
        return _by_engine(book, view, ruleset)
    problems = AccountProblems(book)
    leg_symbol = _leg_symbols(book, view, problems)
    collateral = _collateral(book, view, ruleset, problems)
    table = TierTable.build(ruleset, view.symbols)
    # Overflow is found below and reported by account, not warned about.
    with np.errstate(over="ignore", invalid="ignore"):
        mark = _take(view.mark, leg_symbol)
        notional = book.leg_quantity * mark
        entry = np.where(np.isnan(book.leg_entry_price), mark, book.leg_entry_price)
        unrealised = book.leg_quantity * (mark - entry)
        leg_initial = table.initial(notional, leg_symbol)
        leg_maintenance = table.maintenance(notional, leg_symbol)
        initial = row_sums(book.leg_start, leg_initial)
        maintenance = row_sums(book.leg_start, leg_maintenance)
        gross = row_sums(book.leg_start, np.abs(notional))
        equity = book.cash + row_sums(book.balance_start, collateral.counted())
        equity += row_sums(book.leg_start, unrealised)
        headroom = equity - maintenance

    figures = (equity, initial, maintenance, headroom, gross)
    _check_figures(figures, problems)
    return Requirement(
        *figures,
        leg_start=book.leg_start,
        leg_symbol=leg_symbol,
        leg_notional=notional,
        leg_unrealised_pnl=unrealised,
        leg_initial_margin=leg_initial,
        leg_maintenance_margin=leg_maintenance,
        problems=problems.found,
        collateral=collateral,
    )


def _by_engine(book: Book, view: MarketView, ruleset: RuleSet) -> Requirement:
    found = book_margins(book, view, ruleset)
    own, held = found.position_exposures, found.book
    with np.errstate(over="ignore", invalid="ignore"):
        gross = row_sums(book.leg_start, np.abs(own.delta))
    figures = (
        found.equity,
        found.initial_margin,
        found.maintenance_margin,
        found.headroom,
        gross,
    )
    _check_figures(figures, held.problems)
    options = None
    if held.option.any():
        options = OptionLegs(held.option, own.value, own.gamma, own.vega, held.age_hours)
    return Requirement(
        *figures,
        leg_start=book.leg_start,
        leg_symbol=held.symbol,
        leg_notional=own.delta,
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
        collateral_haircuts(pledges, held.portfolios.underlyings, ruleset),
        pledges.maintenance_premium,
    )


def _check_figures(figures: Sequence[Floats], problems: AccountProblems) -> None:
    """Blame the accounts whose figures are not finite, and take theirs from all with a problem."""
    finite = np.logical_and.reduce([np.isfinite(figure) for figure in figures])
    for i in np.flatnonzero(~finite):
        problems.of_account(int(i), "its figures exceed what float64 can hold; check its sizes")
    for figure in figures:
        figure[list(problems.found)] = np.nan


def collateral_rate(ruleset: RuleSet, asset: str) -> float:
    """Share of a positive balance that counts as equity: 1 minus the haircut; 1 for cash."""
    return 1.0 - ruleset.collateral.haircut(asset)


def _leg_symbols(book: Book, view: MarketView, problems: AccountProblems) -> Ints:
    index = view.index()
    rows, found = _look_up(book.leg_instrument, lambda name: _find_instrument(name, view, index))
    numbers = sound_numbers(book)
    problems.of_positions(
        (rows < 0) | ~numbers, {name: reason for name, (_, reason) in found.items()}
    )
    rows[~numbers] = -1
    return rows


def _find_instrument(name: str, view: MarketView, index: dict[str, int]) -> _Found:
    try:
        instrument = parse_instrument(name)
    except InstrumentError as error:
        return -1, str(error)
    if instrument.kind == "option":
        return -1, f"{name!r} is an option; the tier engine margins spot and perpetuals only"
    return find_price(name, instrument.symbol, view, index)


def _collateral(
    book: Book, view: MarketView, ruleset: RuleSet, problems: AccountProblems
) -> Collateral:
    cash_assets = frozenset(ruleset.collateral.cash_assets)
    index = view.index()
    names = book.balance_asset
    rows, found = _look_up(
        names,
        lambda name: (
            (-1, "") if name in cash_assets else find_price(name, f"{name}USDT", view, index)
        ),
    )
    haircuts = {name: ruleset.collateral.haircut(name) for name in found}
    haircut = np.fromiter((haircuts[name] for name in names), np.float64, len(names))
    cash = np.fromiter((name in cash_assets for name in names), np.bool_, len(names))
    price = np.where(cash, 1.0, _take(view.mark, rows))
    finite = np.isfinite(book.balance_amount)
    problems.of_balances(
        np.isnan(price) | ~finite, {name: reason for name, (_, reason) in found.items()}
    )
    with np.errstate(over="ignore", invalid="ignore"):
        return Collateral(book.balance_start, rows, book.balance_amount * price, haircut)


def _look_up(names: Sequence[str], find: Callable[[str], _Found]) -> tuple[Ints, dict[str, _Found]]:
    """Row of every name, each distinct name looked up once."""
    found = {name: find(name) for name in dict.fromkeys(names)}
    rows = np.fromiter((found[name][0] for name in names), dtype=np.int64, count=len(names))
    return rows, found


def _take(values: Floats, row: Ints) -> Floats:
    """`values` at each row, NaN at −1."""
    taken = np.full(len(row), np.nan)
    known = row >= 0
    taken[known] = values[row[known]]
    return taken
