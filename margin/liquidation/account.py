"""Liquidation figures of one account: price levels, next step, order limits and auction offers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import UNSET
from msgspec.structs import replace

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Holding, Portfolio
from margin.engines.margins import Margins
from margin.liquidation.auction import Offer, auction_fee, auction_steps
from margin.liquidation.partial import Step, liquidation_step
from margin.liquidation.price_impact import fillable_price
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
    """Prices of one underlying at which an account is liquidated and bankrupt."""

    liquidation: Crossing
    bankruptcy: Crossing


@dataclass(frozen=True, slots=True)
class LegLevels:
    """Liquidation and bankruptcy in the price of one position's own instrument.

    Attributes
    ----------
    instrument:
        Name of the instrument.
    price:
        Of a perpetual or spot; of an option the forward of its expiry.
    levels:
        Prices.
    isolated:
        Whether only the position's own margin covers it.
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
    limit_prices:
        How far from the mark the closing order of each position of the step may go; None where
        the rules have no such limit, or the position is an option.
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
    limit_prices: tuple[float | None, ...]
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
    margin_of = dict(isolated or {})
    names = [position.name for position in portfolio.positions]
    if unknown := sorted(set(margin_of) - set(names)):
        raise CaseError(
            f"isolated names {', '.join(unknown)}; the portfolio holds {', '.join(names) or 'none'}"
        )
    for name, margin in margin_of.items():
        if not 0.0 <= margin < math.inf:
            raise CaseError(f"isolated gives {name} a margin of {margin}; expected 0 or more")
    shared = replace(
        portfolio,
        positions=tuple(leg for leg in portfolio.positions if leg.name not in margin_of),
    )
    margins = margins_of([shared], ruleset)
    net, value = float(margins.maintenance_net[0]), float(margins.mark_to_market[0])
    shared_levels = {name: _levels(shared, name, ruleset) for name in shared.underlyings}
    legs = []
    for position in portfolio.positions:
        is_isolated = position.name in margin_of
        levels = shared_levels[position.underlying]
        if is_isolated:
            # Lines of one instrument are one position, which has its margin once.
            lines = tuple(leg for leg in portfolio.positions if leg.name == position.name)
            alone = replace(
                portfolio, cash=margin_of[position.name], positions=lines, collateral=()
            )
            levels = _levels(alone, position.underlying, ruleset)
        price = _instrument_price(portfolio, position)
        legs.append(LegLevels(position.name, price, _in_prices(levels, price), is_isolated))
    auction = ruleset.liquidation_or_default.auction if net < 0.0 else UNSET
    return AccountLiquidation(
        net=net,
        mark_to_market=value,
        underlyings={
            name: _in_prices(levels, shared.underlyings[name].spot)
            for name, levels in shared_levels.items()
        },
        legs=tuple(legs),
        step=liquidation_step(shared, ruleset),
        limit_prices=_limit_prices(shared, margins, ruleset),
        auction=() if auction is UNSET else auction_steps(net, value, auction),
        auction_fee=0.0 if auction is UNSET else auction_fee(net, value, auction),
    )


def _limit_prices(
    portfolio: Portfolio, margins: Margins, ruleset: RuleSet
) -> tuple[float | None, ...]:
    fund = ruleset.liquidation_or_default.fund
    if fund is UNSET or fund.fill_spread is UNSET:
        return (None,) * len(portfolio.positions)
    value = float(margins.mark_to_market[0])
    requirement = value - float(margins.maintenance_net[0])
    legs = flatten([portfolio], ruleset.collateral)
    prices: list[float | None] = []
    for position, leg in zip(portfolio.positions, legs.position_leg.tolist(), strict=True):
        quantity, margin = float(legs.quantity[leg]), float(margins.leg_maintenance[leg])
        if position.kind == "option" or quantity == 0.0 or not requirement > 0.0:
            prices.append(None)
        else:
            mark = price_of(portfolio.underlyings[position.underlying], position)
            prices.append(fillable_price(quantity, mark, margin, value / requirement, fund))
    return tuple(prices)


def _levels(portfolio: Portfolio, underlying: str, ruleset: RuleSet) -> Levels:
    return Levels(
        liquidation_crossing(portfolio, underlying, ruleset),
        bankruptcy_crossing(portfolio, underlying, ruleset),
    )


def _instrument_price(portfolio: Portfolio, position: Holding) -> float:
    underlying = portfolio.underlyings[position.underlying]
    for expiry in underlying.expiries:
        if position.kind == "option" and expiry.seconds_to_expiry == position.seconds_to_expiry:
            return expiry.forward
    return price_of(underlying, position)


def _in_prices(levels: Levels, price: float) -> Levels:
    return Levels(_times(levels.liquidation, price), _times(levels.bankruptcy, price))


def _times(crossing: Crossing, price: float) -> Crossing:
    return Crossing(
        None if crossing.down is None else crossing.down * price,
        None if crossing.up is None else crossing.up * price,
        crossing.passed,
    )
