"""Everything that the liquidation rules say of one account."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import UNSET
from msgspec.structs import replace

from margin.book.case_portfolio import Holding, Portfolio
from margin.liquidation.auction import Offer, auction_fee, auction_steps
from margin.liquidation.partial import Step, liquidation_step
from margin.liquidation.prices import (
    Crossing,
    bankruptcy_crossing,
    liquidation_crossing,
    margins_of,
)
from margin.liquidation.shocked_portfolio import price_of
from margin.rules.ruleset import RuleSet
from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class Levels:
    """Where an account is liquidated and bankrupt as one underlying moves, in its prices."""

    liquidation: Crossing
    bankruptcy: Crossing


@dataclass(frozen=True, slots=True)
class LegLevels:
    """The same in the price of one position's own instrument.

    Attributes
    ----------
    instrument:
        Its name.
    price:
        Of a perpetual or spot; of an option the forward of its expiry.
    levels:
        Prices.
    isolated:
        The position's own margin alone stands for it.
    """

    instrument: str
    price: float
    levels: Levels
    isolated: bool


@dataclass(frozen=True, slots=True)
class AccountLiquidation:
    """Liquidation figures of one account, settlement currency.

    Attributes
    ----------
    net, mark_to_market:
        Net maintenance margin and mark-to-market.
    underlyings:
        By name: levels in the spot price.
    legs:
        Of every position, in the order given.
    step:
        The next step of a liquidation; closes nothing while the margin is met.
    auction:
        Offers over time; empty where the rules have no auction or the margin is met.
    auction_fee:
        Paid to the fund at its start; 0 where there is none, or it starts insolvent.
    """

    net: float
    mark_to_market: float
    underlyings: Mapping[str, Levels]
    legs: tuple[LegLevels, ...]
    step: Step
    auction: tuple[Offer, ...]
    auction_fee: float


def liquidation_of(
    portfolio: Portfolio, ruleset: RuleSet, isolated: Mapping[str, float] | None = None
) -> AccountLiquidation:
    """Liquidation figures of an account.

    Parameters
    ----------
    portfolio:
        Checked; not changed.
    ruleset:
        Rules of margin and of liquidation.
    isolated:
        Margin of each isolated position by its name, 0 or more. An isolated position, all lines of
        its instrument together, stands alone with its margin; the rest of the account knows
        neither.

    Raises
    ------
    CaseError
        `isolated` names a position that is not held or gives a margin that is below 0 or not
        finite, or figures exceed float64.
    """
    own = dict(isolated or {})
    held = [position.name for position in portfolio.positions]
    if unknown := sorted(set(own) - set(held)):
        raise CaseError(
            f"isolated names {', '.join(unknown)}; the portfolio holds {', '.join(held) or 'none'}"
        )
    for name, margin in own.items():
        if not 0.0 <= margin < math.inf:
            raise CaseError(f"isolated gives {name} a margin of {margin}; expected 0 or more")
    shared = replace(
        portfolio,
        positions=tuple(one for one in portfolio.positions if one.name not in own),
    )
    margins = margins_of([shared], ruleset)
    net, value = float(margins.maintenance_net[0]), float(margins.mark_to_market[0])
    moves = {name: _levels(shared, name, ruleset) for name in shared.underlyings}
    legs = []
    for position in portfolio.positions:
        alone = position.name in own
        levels = moves[position.underlying]
        if alone:
            # Lines of one instrument are one position, which has its margin once.
            lines = tuple(one for one in portfolio.positions if one.name == position.name)
            only = replace(portfolio, cash=own[position.name], positions=lines, collateral=())
            levels = _levels(only, position.underlying, ruleset)
        price = _own_price(portfolio, position)
        legs.append(LegLevels(position.name, price, _scaled(levels, price), alone))
    rules = ruleset.liquidation_or_default.auction
    auctioned = rules if net < 0.0 else UNSET
    return AccountLiquidation(
        net=net,
        mark_to_market=value,
        underlyings={
            name: _scaled(levels, shared.underlyings[name].spot) for name, levels in moves.items()
        },
        legs=tuple(legs),
        step=liquidation_step(shared, ruleset),
        auction=() if auctioned is UNSET else auction_steps(net, value, auctioned),
        auction_fee=0.0 if auctioned is UNSET else auction_fee(net, value, auctioned),
    )


def _levels(portfolio: Portfolio, underlying: str, ruleset: RuleSet) -> Levels:
    return Levels(
        liquidation_crossing(portfolio, underlying, ruleset),
        bankruptcy_crossing(portfolio, underlying, ruleset),
    )


def _own_price(portfolio: Portfolio, position: Holding) -> float:
    underlying = portfolio.underlyings[position.underlying]
    for expiry in underlying.expiries:
        if position.kind == "option" and expiry.seconds_to_expiry == position.seconds_to_expiry:
            return expiry.forward
    return price_of(underlying, position)


def _scaled(levels: Levels, price: float) -> Levels:
    return Levels(*(_times(one, price) for one in (levels.liquidation, levels.bankruptcy)))


def _times(crossing: Crossing, price: float) -> Crossing:
    return Crossing(
        None if crossing.down is None else crossing.down * price,
        None if crossing.up is None else crossing.up * price,
        crossing.passed,
    )
