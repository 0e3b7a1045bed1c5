"""One account of a book as a readable portfolio: what the what-if questions are asked of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

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
from market.core.clock import format_time

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AccountPortfolio:
    """An account with the prices of a market.

    Attributes
    ----------
    portfolio:
        One position an instrument, in the canonical order.
    listed:
        The instruments that were asked for, quantity 0, at the prices of the portfolio; by
        identifier.
    """

    portfolio: Portfolio
    listed: dict[str, Holding]


def account_portfolio(
    account: Account, view: MarketView, ruleset: RuleSet, listed: Sequence[str] = ()
) -> AccountPortfolio:
    """An account in a market as a `Portfolio`, found and priced as `book_portfolios` says.

    Its margins are those of the account in a book: its net maintenance margin is the headroom of
    `margin.book.requirement.compute_requirement`, its initial one equity less initial margin.

    Parameters
    ----------
    account:
        As it stands.
    view:
        The market.
    ruleset:
        Its cash assets and haircuts; its engine need not be asked yet.
    listed:
        Instruments to be priced beside those held.

    Raises
    ------
    InstrumentError, DataError
        Something that is held, pledged or listed cannot be valued: the first thing found wrong.
    """
    asked = tuple(Position(name, 0.0) for name in dict.fromkeys(listed))
    wider = replace(account, positions=(*account.positions, *asked))
    held = book_portfolios(Book.of([wider]), view, ruleset.collateral)
    if held.problems.found:
        raise held.problems.found[0]
    portfolios, given = held.portfolios, len(account.positions)
    legs = held.position_leg.tolist()
    holdings = _holdings(portfolios)
    portfolio = Portfolio(
        cash=float(portfolios.cash[0]),
        stable_price=float(portfolios.stable_price[0]),
        underlyings=_underlyings(portfolios),
        positions=tuple(holdings[leg] for leg in sorted(set(legs[:given]))),
        collateral=_pledges(portfolios),
        history=None if portfolios.history is None else _history(portfolios.history),
    )
    priced = {
        position.instrument: msgspec.structs.replace(
            holdings[leg], instrument=position.instrument, quantity=0.0, unrealised_pnl=None
        )
        for position, leg in zip(asked, legs[given:], strict=True)
    }
    return AccountPortfolio(portfolio, priced)


def _holdings(portfolios: Portfolios) -> list[Holding]:
    """The legs, with what they have gained; identifiers as given."""
    on = portfolios.underlyings.name
    found = []
    for leg, name in enumerate(portfolios.name):
        kind = int(portfolios.kind[leg])
        underlying, quantity = on[portfolios.underlying[leg]], float(portfolios.quantity[leg])
        if kind != OPTION:
            found.append(
                Holding(
                    kind="perp" if kind == PERP else "spot",
                    underlying=underlying,
                    quantity=quantity,
                    unrealised_pnl=float(portfolios.unrealised[leg]),
                    instrument=name,
                )
            )
            continue
        found.append(
            Holding(
                kind="option",
                underlying=underlying,
                quantity=quantity,
                seconds_to_expiry=float(portfolios.expiries.seconds[portfolios.expiry[leg]]),
                strike=float(portfolios.strike[leg]),
                type="call" if portfolios.call[leg] else "put",
                vol=float(portfolios.vol[leg]),
                instrument=name,
            )
        )
    return found


def _underlyings(portfolios: Portfolios) -> dict[str, Underlying]:
    own, expiries = portfolios.underlyings, portfolios.expiries
    of_underlying: dict[int, list[Expiry]] = {}
    for e, row in enumerate(expiries.underlying.tolist()):
        one = Expiry(
            seconds_to_expiry=float(expiries.seconds[e]),
            forward=float(expiries.forward[e]),
            rate=float(expiries.rate[e]),
            forward_confidence=float(expiries.forward_confidence[e]),
            vol_confidence=float(expiries.vol_confidence[e]),
        )
        of_underlying.setdefault(row, []).append(one)
    return {
        name: Underlying(
            spot=float(own.spot[row]),
            spot_confidence=float(own.spot_confidence[row]),
            perp_price=_known(own.perp_price[row]),
            perp_confidence=float(own.perp_confidence[row]),
            open_interest=_known(own.open_interest[row]),
            expiries=tuple(of_underlying.get(row, ())),
        )
        for row, name in enumerate(own.name)
    }


def _pledges(portfolios: Portfolios) -> tuple[CollateralBalance, ...]:
    """Without haircuts of their own: those of the rule set apply again."""
    own, on = portfolios.pledges, portfolios.underlyings.name
    return tuple(
        CollateralBalance(
            asset=asset,
            amount=float(own.amount[b]),
            price=float(own.price[b]),
            underlying=None if own.underlying[b] < 0 else on[own.underlying[b]],
            confidence=float(own.confidence[b]),
        )
        for b, asset in enumerate(own.asset)
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
