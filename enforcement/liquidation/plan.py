"""One step of a liquidation as instructions to the venue, and what is expected of it.

A plan is a pure function of account, progress, market and rules. The venue is told what to trade;
the account as it is expected afterwards, filled at the estimated prices, is what a replay of
history goes on with. A live book goes on with what the venue reports.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from msgspec import UNSET

from margin.book.requirement import Requirement, compute_requirement
from margin.life_cycle.states import NEVER
from margin.liquidation.book_liquidation import book_step, sell_at_auction, take_over
from margin.liquidation.partial import Step
from margin.liquidation.price_impact import ImpactCurves, counts_impact, fillable_price, worst_price
from margin.liquidation.shortfall import ClosedPosition, closed_positions
from margin.liquidation.waterfall import (
    Transfer,
    sale_transfers,
    step_transfers,
    take_over_transfers,
)
from margin.rules.liquidation import AuctionRules
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book
from market.core.clock import SECOND
from market.core.errors import DataError
from market.core.instruments import parse_instrument


@dataclass(frozen=True, slots=True)
class Draft:
    """An instruction before it has an id: what the venue is to do."""

    kind: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the liquidation of an account has come.

    Attributes
    ----------
    since, last:
        When it began, and its newest step; nanoseconds, `NEVER` without a step.
    steps:
        Steps that were planned.
    reserved:
        Proceeds of its sales at auction, settlement currency; a sale counts once it is filled.
    taken_over:
        The backstop has taken the account over.
    """

    since: int
    steps: int = 0
    last: int = NEVER
    reserved: float = 0.0
    taken_over: bool = False

    def to_content(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> Progress:
        """The progress that `to_content` wrote; what else is there is left out."""
        return cls(**{one.name: content[one.name] for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step tells the venue, and what it expects.

    Attributes
    ----------
    drafts:
        In the order in which they are to be carried out; none where the margin is met.
    step:
        Shares, fee, impact and margins; None where the margin is met.
    offer:
        Figures of the auction; None without one.
    progress:
        After the step.
    expected:
        The account once everything is filled as estimated.
    closed:
        What the step takes off, by instrument.
    transfers:
        Cash that changes hands with it, see `margin.liquidation.waterfall`.
    withheld:
        Instruments of the account that the mode keeps from being closed.
    """

    drafts: tuple[Draft, ...]
    step: Step | None
    offer: dict[str, Any] | None
    progress: Progress
    expected: Account
    closed: tuple[ClosedPosition, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    withheld: tuple[str, ...] = ()

    def figures(self) -> dict[str, Any]:
        """The step as it is recorded, settlement currency."""
        step = self.step
        if step is None:
            return {}
        return {
            "notional": step.notional,
            "fee": step.fee,
            "impact": step.impact,
            "headroom_before": step.net_before,
            "headroom_after": step.net_after,
            "restored": step.restored,
            "backstop": step.backstop,
            "auction": self.offer,
            "withheld": list(self.withheld),
        }


def plan_step(
    account: Account,
    progress: Progress,
    view: MarketView,
    ruleset: RuleSet,
    withheld: Collection[str] = (),
) -> Plan:
    """The next step of a liquidation.

    The first step cancels open orders and restricts the account to closing trades. Then, by the
    rule set: the whole account goes to the backstop where its equity is above 0 and below the
    venue's share of the requirement; or a share of it is auctioned; or its positions are closed,
    each instrument by one signed quantity. What an account that is bankrupt holds is deleveraged
    instead where the rule set has a queue of winners. An account that meets its margin gets
    nothing, and so does one that had a step at this time: there is one step at each market time.

    ``position`` of a close is what the account holds of the instrument when it is given, and
    ``positions`` of a sale at auction or a take-over what it holds of each; ``fee`` and ``impact``
    of a close are its part of the step's, by notional.

    ``limit_price`` of a close is the venue's fillable price (`[liquidation.fund] fill_spread`),
    else with ``price_impact = "depth"`` the price that the last unit is expected to reach; without
    either the close has no limit.

    Parameters
    ----------
    account, view, ruleset:
        As in `margin.liquidation.book_liquidation.book_step`.
    progress:
        Of this liquidation.
    withheld:
        Instruments or symbols for which no instruction may be given; while the account holds one,
        it is neither auctioned nor taken over.

    Raises
    ------
    DataError
        The account cannot be valued.
    """
    requirement = compute_requirement(Book.of([account]), view, ruleset)
    if requirement.problems:
        raise DataError(str(requirement.problems[0]))
    kept = tuple(sorted({leg.instrument for leg in account.positions if _among(leg, withheld)}))
    is_done = float(requirement.headroom[0]) >= 0.0 or not account.positions
    if is_done or progress.last >= view.as_of:
        return Plan((), None, None, progress, account, withheld=kept)
    rules, as_of = ruleset.liquidation_or_default, view.as_of
    first = progress.last == NEVER
    elapsed = (as_of - progress.since) / SECOND
    has_fund = rules.fund is not UNSET
    later = replace(progress, steps=progress.steps + 1, last=as_of, taken_over=False)
    opening = _opening_drafts() if progress.steps == 0 else ()
    if rules.auction is not UNSET and not kept:
        return _auction(account, requirement, view, ruleset, rules.auction, progress)
    since_last = np.inf if first else (as_of - progress.last) / SECOND
    after, step = book_step(
        account,
        view,
        ruleset,
        elapsed_seconds=elapsed,
        since_last_seconds=since_last,
        withheld=kept,
    )
    equity = float(requirement.equity[0])
    closed = closed_positions(Book.of([account]), requirement, 0, step.shares)
    if step.backstop and equity > step.fee:
        after = take_over(account, step)
        return Plan(
            (*opening, Draft("transfer_to_backstop", _takeover(account, equity, step))),
            step,
            None,
            later,
            after,
            closed,
            take_over_transfers(account, equity, step, has_fund),
        )
    kind = "deleverage" if equity < 0.0 and rules.deleverage is not UNSET else "close"
    limits = _limit_prices(account, requirement, view, ruleset, step)
    traded = [position for position in closed if position.quantity != 0.0]
    total = math.fsum(position.notional for position in traded)
    drafts = [
        Draft(
            kind,
            {
                "instrument": position.instrument,
                "quantity": -position.quantity,
                "position": held_quantity(account, position.instrument),
                **_costs(step, position.notional / total if total > 0.0 else 0.0),
            }
            | ({} if kind == "deleverage" else limits.get(position.instrument, {})),
        )
        for position in traded
    ]
    transfers = step_transfers(account, after, step, has_fund)
    return Plan((*opening, *drafts), step, None, later, after, closed, transfers, kept)


def _auction(
    account: Account,
    requirement: Requirement,
    view: MarketView,
    ruleset: RuleSet,
    auction: AuctionRules,
    progress: Progress,
) -> Plan:
    after, sale = sell_at_auction(
        account,
        view,
        ruleset,
        auction,
        elapsed_seconds=(view.as_of - progress.since) / SECOND,
        reserved=progress.reserved,
        first=progress.reserved == 0.0,
    )
    later = replace(progress, steps=progress.steps + 1, last=view.as_of)
    offer = {
        "seconds": sale.offer.seconds,
        "solvent": sale.offer.solvent,
        "price_factor": sale.offer.price_factor,
        "price": sale.offer.price,
        "share": sale.offer.share,
    }
    has_fund = ruleset.liquidation_or_default.fund is not UNSET
    return Plan(
        (
            *(_opening_drafts() if progress.steps == 0 else ()),
            Draft(
                "auction",
                offer
                | {"discount": sale.discount, "proceeds": sale.proceeds, **_costs(sale.step, 1.0)}
                | {"positions": _positions(account)},
            ),
        ),
        sale.step,
        offer | {"discount": sale.discount},
        later,
        after,
        closed_positions(Book.of([account]), requirement, 0, sale.step.shares),
        sale_transfers(account, after, sale, has_fund),
    )


def held_quantity(account: Account, instrument: str) -> float:
    """Signed quantity of an instrument that an account holds, over all its lines."""
    return math.fsum(leg.quantity for leg in account.positions if leg.instrument == instrument)


def held_when_given(parameters: Mapping[str, Any]) -> dict[str, float]:
    """What an account held of each instrument that an instruction trades, when it was given."""
    if "position" in parameters:
        return {str(parameters["instrument"]): float(parameters["position"])}
    return {name: float(held) for name, held in parameters.get("positions", {}).items()}


def _positions(account: Account) -> dict[str, float]:
    return {leg.instrument: held_quantity(account, leg.instrument) for leg in account.positions}


def _costs(step: Step, part: float) -> dict[str, float]:
    """What is booked once a part of a step is carried out."""
    return {"fee": step.fee * part, "impact": step.impact * part}


def _takeover(account: Account, equity: float, step: Step) -> dict[str, Any]:
    """Parameters of a transfer to the backstop, which takes the equity that the fee leaves."""
    return {"equity": equity - step.fee, "fee": step.fee, "positions": _positions(account)}


def _opening_drafts() -> tuple[Draft, ...]:
    return Draft("cancel_orders", {}), Draft("reduce_only", {})


def _among(leg: Any, withheld: Collection[str]) -> bool:
    if not withheld:
        return False
    name: str = leg.instrument
    return name in withheld or parse_instrument(name).symbol in withheld


def _limit_prices(
    account: Account, requirement: Requirement, view: MarketView, ruleset: RuleSet, step: Step
) -> dict[str, dict[str, Any]]:
    """``limit_price`` and its ``limit_source`` by instrument; of several lines the first one's."""
    rules, prices = ruleset.liquidation_or_default, dict[str, dict[str, Any]]()
    spread = rules.fund is not UNSET and rules.fund.fill_spread is not UNSET
    if not spread and not counts_impact(rules):
        return prices
    shares = np.array(step.shares)
    notional = requirement.leg_notional
    curves = ImpactCurves.of_view(requirement.leg_symbol, view, ruleset)
    costs = curves.costs((shares * np.abs(notional))[None, :])[0]
    half = curves.depth.half_spread[requirement.leg_symbol] * shares * np.abs(notional)
    cover = float(requirement.equity[0] / requirement.maintenance_margin[0])
    options = requirement.options
    for i, leg in enumerate(account.positions):
        if shares[i] == 0.0 or leg.instrument in prices:
            continue
        is_option = options is not None and bool(options.option[i])
        value = float(options.value[i]) if options is not None and is_option else notional[i]
        mark = float(value) / leg.quantity
        if not spread:
            closed = leg.quantity * float(shares[i])
            price = worst_price(mark, closed, float(costs[i]), float(half[i]))
            prices[leg.instrument] = {"limit_price": price, "limit_source": "depth"}
        elif not is_option and rules.fund is not UNSET:
            margin = float(requirement.leg_maintenance_margin[i])
            price = fillable_price(leg.quantity, mark, margin, cover, rules.fund)
            prices[leg.instrument] = {"limit_price": price, "limit_source": "fillable_price"}
    return prices
