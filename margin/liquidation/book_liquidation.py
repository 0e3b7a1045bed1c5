"""Liquidation of accounts of a book: partial steps, auction sales and closes at the mark.

Everything goes through the requirement that the endpoint computes. What a position was worth
becomes cash; a fee, the price impact of a close, a buyer's discount or a share in somebody's loss
is paid out of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from margin.book.requirement import Requirement, compute_requirement
from margin.liquidation.auction import Offer, auction_fee, insolvent_offer, solvent_offer
from margin.liquidation.partial import Step, next_step
from margin.liquidation.price_impact import ImpactCurves, closing_impact, counts_impact
from margin.rules.liquidation import AuctionRules
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Sale:
    """A sale at auction, settlement currency.

    Attributes
    ----------
    step:
        What is sold of each position, the fee and the margins before and after.
    offer:
        The offer that a buyer took; its price is that of the whole account.
    discount:
        What the buyer gains beside the mark; the account, or whoever pays its shortfall, loses it.
    proceeds:
        What the buyer paid: cash of the account that no later buyer is entitled to.
    """

    step: Step
    offer: Offer
    discount: float
    proceeds: float


def book_step(
    account: Account,
    view: MarketView,
    ruleset: RuleSet,
    *,
    elapsed_seconds: float = 0.0,
    since_last_seconds: float = np.inf,
    withheld: Collection[str] = (),
) -> tuple[Account, Step]:
    """One step of closing an account, and the account after it.

    Closes are made at the mark, and what they move the price is paid beside the fee.

    Parameters
    ----------
    account:
        Not changed.
    view:
        The market.
    ruleset, elapsed_seconds, since_last_seconds:
        As in `margin.liquidation.partial.next_step`; the requirement is the maintenance margin
        and is counted from equity.
    withheld:
        Instruments that may not be closed now: the others are, and nothing is taken over.

    Raises
    ------
    DataError
        The account cannot be valued.
    """
    rules = ruleset.liquidation_or_default
    closable = _BookAccount(account, view, ruleset, withheld)
    if closable.is_restricted:
        rules = msgspec.structs.replace(rules, backstop_share=0.0)
    step = next_step(
        closable, rules, elapsed_seconds=elapsed_seconds, since_last_seconds=since_last_seconds
    )
    shares = np.array(step.shares)
    after = closable.close(shares, step.fee + step.impact)
    return after, replace(step, shares=tuple(closable.of_all(shares).tolist()))


def sell_at_auction(
    account: Account,
    view: MarketView,
    ruleset: RuleSet,
    auction: AuctionRules,
    *,
    elapsed_seconds: float = 0.0,
    reserved: float = 0.0,
    first: bool = True,
) -> tuple[Account, Sale]:
    """Sell an account to the buyer who takes the largest share at the price asked now.

    While it is worth something and the two phases last, the offer is that of `solvent_offer`: the
    share f of every position goes, and the account loses ``f (1 - d) (value - reserved)``. Else
    everything goes at the price of `insolvent_offer`, 0 or below: what is left of the account is
    that price, which the fund pays. An auction that is insolvent from the start is taken at once.

    Parameters
    ----------
    account, view, ruleset:
        As in `book_step`; the account is short of margin.
    auction:
        ``[liquidation.auction]``.
    elapsed_seconds:
        Since the auction began.
    reserved:
        Proceeds of its earlier sales.
    first:
        The auction begins now: its fee is due.

    Raises
    ------
    DataError
        The account cannot be valued.
    """
    closable = _BookAccount(account, view, ruleset)
    fee = auction_fee(closable.net, closable.value, auction) if first else 0.0
    net, value = closable.net - fee, closable.value - fee
    over = elapsed_seconds - (auction.fast_seconds + auction.slow_seconds)
    if value > 0.0 and over < 0.0:
        offer = solvent_offer(net, value, elapsed_seconds, auction, reserved)
        worth = offer.share * max(0.0, value - reserved)
        proceeds = offer.share * offer.price
        discount = worth - proceeds
    else:
        offer = insolvent_offer(net, value, max(0.0, over) if value > 0.0 else 0.0, auction)
        discount, proceeds = value - offer.price, 0.0
    shares = np.full(len(account.positions), offer.share)
    after = closable.close(shares, fee + discount)
    requirement = float(closable.requirement_after(shares[None, :])[0])
    net_after = value - discount - requirement
    step = Step(
        shares=tuple(shares.tolist()),
        notional=math.fsum((shares * closable.notionals).tolist()),
        fee=fee,
        net_before=closable.net,
        net_after=net_after,
        requirement_after=requirement,
        # The share is a closed form, which meets the buffer up to its rounding.
        restored=net_after - auction.buffer * requirement >= -_ROUNDING * abs(closable.value),
    )
    return after, Sale(step, offer, discount, proceeds)


def take_over(account: Account, step: Step) -> Account:
    """What an account keeps whose step says `backstop`: nothing.

    The backstop takes positions, collateral and the equity that is left, which is above 0.

    References
    ----------
    Hyperliquid Docs, "Liquidations" (positions and margin are transferred to the liquidator).
    """
    if not step.backstop:
        raise DataError(
            f"the step of account {account.account_id!r} is no take-over; close it instead"
        )
    return Account(account.account_id, 0.0)


def close_at_mark(
    account: Account, view: MarketView, ruleset: RuleSet, shares: Floats, payment: float
) -> Account:
    """The account once shares of its positions, shape (P,), are closed and a payment is made.

    Raises
    ------
    DataError
        The account cannot be valued.
    """
    return _BookAccount(account, view, ruleset).close(shares, payment)


class _BookAccount:
    """An account of a book in one market; a `margin.liquidation.partial.Closable`.

    Its positions are those that are not withheld; shares are of them.
    """

    def __init__(
        self,
        account: Account,
        view: MarketView,
        ruleset: RuleSet,
        withheld: Collection[str] = (),
    ) -> None:
        self._account, self._view, self._ruleset = account, view, ruleset
        requirement = self._margin([account])
        if requirement.problems:
            raise DataError(str(requirement.problems[0]))
        self.net, self.value = float(requirement.headroom[0]), float(requirement.equity[0])
        self.requirement = float(requirement.maintenance_margin[0])
        names = [position.instrument for position in account.positions]
        self._free = np.array([i for i, name in enumerate(names) if name not in withheld], np.int64)
        self.is_restricted = len(self._free) < len(names)
        self.notionals = np.abs(requirement.leg_notional[self._free])
        self._order = sorted(
            range(len(self._free)),
            key=lambda k: (
                -requirement.leg_maintenance_margin[self._free[k]],
                names[self._free[k]],
                k,
            ),
        )
        self._curves = None
        if counts_impact(ruleset.liquidation_or_default):
            symbols = requirement.leg_symbol[self._free]
            self._curves = ImpactCurves.of_view(symbols, view, ruleset)

    def impact(self, shares: Floats) -> Floats:
        return closing_impact(self._curves, shares, self.notionals)

    def requirement_after(self, shares: Floats) -> Floats:
        return self._margin([self._reduce(row) for row in shares]).maintenance_margin

    def largest_first(self) -> list[int]:
        return list(self._order)

    def of_all(self, shares: Floats) -> Floats:
        """Shares of all positions; those that are withheld stay."""
        every = np.zeros(len(self._account.positions))
        every[self._free] = shares
        return every

    def close(self, shares: Floats, payment: float) -> Account:
        """The account after a close; positions that are closed whole are gone."""
        left = self._reduce(shares)
        cash = left.cash + (self.value - payment - float(self._margin([left]).equity[0]))
        positions = tuple(position for position in left.positions if position.quantity != 0.0)
        return Account(left.account_id, cash, positions, left.collateral)

    def _margin(self, accounts: list[Account]) -> Requirement:
        return compute_requirement(Book.of(accounts), self._view, self._ruleset)

    def _reduce(self, shares: Floats) -> Account:
        account = self._account
        return Account(
            account.account_id,
            account.cash,
            tuple(
                Position(leg.instrument, leg.quantity * (1.0 - share), leg.entry_price)
                for leg, share in zip(account.positions, self.of_all(shares).tolist(), strict=True)
            ),
            account.collateral,
        )
