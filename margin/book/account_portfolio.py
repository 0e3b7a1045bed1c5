"""One account of a book as a readable portfolio: the input of what-if questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from margin.book.book_portfolios import book_portfolios
from margin.book.case_portfolio import (
    CollateralBalance,
    Expiry,
    History,
    Holding,
    Portfolio,
    Underlying,
)
from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.bars.daily_closes import DailyCloses
from market.core.arrays import Floats
from market.core.clock import format_time


@dataclass(frozen=True, slots=True)
class AccountPortfolio:
    """An account with the prices of a market.

    Attributes
    ----------
    portfolio:
        One position an instrument, in the canonical order.
    listed:
        Further instruments, quantity 0, at the prices of the portfolio; by identifier.
    """

    portfolio: Portfolio
    listed: dict[str, Holding]


def account_portfolio(
    account: Account, view: MarketView, ruleset: RuleSet, listed: Sequence[str] = ()
) -> AccountPortfolio:
    """An account in a market as a `Portfolio`, priced as `book_portfolios` says.

    Its margins are those of the account in a book: its net maintenance margin is the headroom of
    `margin.book.requirement.compute_requirement`, its initial one equity less initial margin.

    Parameters
    ----------
    account:
        Left as it is.
    view:
        The market.
    ruleset:
        Its cash assets and haircuts; its engine is not used.
    listed:
        Instruments to price beside those of the positions.

    Raises
    ------
    InstrumentError, DataError
        A position, a balance or a listed instrument cannot be valued: the first error.
    """
    empty = tuple(Position(name, 0.0) for name in dict.fromkeys(listed))
    wider = replace(account, positions=(*account.positions, *empty))
    portfolios = book_portfolios(Book.of([wider]), view, ruleset.collateral)
    entries, count = portfolios.entries, len(account.positions)
    if entries.problems:
        raise entries.problems[0]
    legs = entries.position_leg.tolist()
    holdings = _holdings(portfolios)
    portfolio = Portfolio(
        cash=float(portfolios.cash[0]),
        stable_price=float(portfolios.stable_price[0]),
        underlyings=_underlyings(portfolios),
        positions=tuple(holdings[leg] for leg in sorted(set(legs[:count]))),
        collateral=_balances(portfolios),
        history=None if portfolios.history is None else _history(portfolios.history),
    )
    priced = {
        position.instrument: msgspec.structs.replace(
            holdings[leg], instrument=position.instrument, quantity=0.0, unrealised_pnl=None
        )
        for position, leg in zip(empty, legs[count:], strict=True)
    }
    return AccountPortfolio(portfolio, priced)


def _holdings(portfolios: Portfolios) -> list[Holding]:
    """The legs with their unrealised profit; identifiers as given."""
    names = portfolios.underlyings.name
    holdings = []
    for leg, instrument in enumerate(portfolios.name):
        kind = int(portfolios.kind[leg])
        holding = Holding(
            kind="option" if kind == OPTION else "perp" if kind == PERP else "spot",
            underlying=names[portfolios.underlying[leg]],
            quantity=float(portfolios.quantity[leg]),
            instrument=instrument,
        )
        if kind == OPTION:
            holding = msgspec.structs.replace(
                holding,
                seconds_to_expiry=float(portfolios.expiries.seconds[portfolios.expiry[leg]]),
                strike=float(portfolios.strike[leg]),
                type="call" if portfolios.call[leg] else "put",
                vol=float(portfolios.vol[leg]),
            )
        else:
            pnl = float(portfolios.unrealised[leg])
            holding = msgspec.structs.replace(holding, unrealised_pnl=pnl)
        holdings.append(holding)
    return holdings


def _underlyings(portfolios: Portfolios) -> dict[str, Underlying]:
    table, expiries = portfolios.underlyings, portfolios.expiries
    of_underlying: dict[int, list[Expiry]] = {}
    for e, row in enumerate(expiries.underlying.tolist()):
        expiry = Expiry(
            seconds_to_expiry=float(expiries.seconds[e]),
            forward=float(expiries.forward[e]),
            rate=float(expiries.rate[e]),
            forward_confidence=float(expiries.forward_confidence[e]),
            vol_confidence=float(expiries.vol_confidence[e]),
        )
        of_underlying.setdefault(row, []).append(expiry)
    return {
        name: Underlying(
            spot=float(table.spot[row]),
            spot_confidence=float(table.spot_confidence[row]),
            perp_price=_known(table.perp_price[row]),
            perp_confidence=float(table.perp_confidence[row]),
            open_interest=_known(table.open_interest[row]),
            expiries=tuple(of_underlying.get(row, ())),
        )
        for row, name in enumerate(table.name)
    }


def _balances(portfolios: Portfolios) -> tuple[CollateralBalance, ...]:
    """Without haircuts of their own: those of the rule set apply again."""
    balances, names = portfolios.collateral, portfolios.underlyings.name
    return tuple(
        CollateralBalance(
            asset=asset,
            amount=float(balances.amount[b]),
            price=float(balances.price[b]),
            underlying=None if balances.underlying[b] < 0 else names[balances.underlying[b]],
            confidence=float(balances.confidence[b]),
        )
        for b, asset in enumerate(balances.asset)
    )


def _history(daily: DailyCloses) -> History:
    columns = range(len(daily.symbols))
    return History(
        until=format_time(daily.until),
        closes={daily.symbols[s]: _days(daily.close[:, s]) for s in columns},
        variances={daily.symbols[s]: _days(daily.variance[:, s]) for s in columns},
    )


def _days(column: Floats) -> tuple[float | None, ...]:
    return tuple(_known(value) for value in column.tolist())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
