"""The default waterfall of one account, and the cash that changes hands in a liquidation.

What an account owes that was closed below zero is paid by the insurance fund, then by winners on
the other side of its positions (auto-deleverage), then pro rata by all accounts (loss sharing),
each where the rule set has its table; the rest stays uncovered. Every step of a liquidation is a
list of `Transfer`: somebody pays, somebody receives, so the sum over all parties is 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import UNSET

from margin.book.requirement import Requirement
from margin.liquidation.book_liquidation import Sale
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.loss_sharing import LossShare, share_among_accounts
from margin.liquidation.partial import Step
from margin.liquidation.shortfall import ClosedPosition, Contribution, share_loss
from margin.rules.liquidation import LiquidationRules
from market.accounts.book import Account, Book
from market.core.arrays import Bools

MARKET, VENUE, FUND, BACKSTOP, BUYER, UNCOVERED = (
    "market",
    "venue",
    "fund",
    "backstop",
    "buyer",
    "uncovered",
)
"""Parties that are no account: who fills closes, who takes fees where there is no fund, the fund,
who takes accounts over, who buys at auction, and the hole that nobody fills."""

_ROUNDING = 1e-12
"""Share of a shortfall that counts as the rounding of its parts."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Cash from one party to another, settlement currency.

    Attributes
    ----------
    payer, payee:
        One of the named parties, or ``account:ID``.
    amount:
        0 or more.
    reason:
        ``close``, ``impact``, ``fee``, ``sale``, ``discount``, ``take_over``, ``fund``,
        ``deleverage``, ``loss_sharing`` or ``uncovered``.
    """

    payer: str
    payee: str
    amount: float
    reason: str


@dataclass(frozen=True, slots=True)
class Survivors:
    """The accounts that are left when a loss is shared, at the marks of the close.

    `eligible`, shape (N,): who may be deleveraged or share; not who is in liquidation itself.
    `refused`, shape (N,): who is not deleveraged, as it did not bear its part before; None: all
    may be.
    """

    book: Book
    requirement: Requirement
    eligible: Bools
    refused: Bools | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Who bears what an account owes, settlement currency.

    ``shortfall = fund_paid + deleveraged + shared + uncovered``, up to rounding.

    Attributes
    ----------
    account_id, shortfall:
        The account, and what it owes.
    fund_paid:
        By the fund.
    contributions:
        Of winners that are deleveraged.
    shares:
        Of the accounts that share the loss.
    uncovered:
        By nobody.
    fund:
        After its payment; None without one.
    """

    account_id: str
    shortfall: float
    fund_paid: float
    contributions: tuple[Contribution, ...]
    shares: tuple[LossShare, ...]
    uncovered: float
    fund: InsuranceFund | None

    @property
    def deleveraged(self) -> float:
        """What winners give up together."""
        return math.fsum(part.loss for part in self.contributions)

    @property
    def shared(self) -> float:
        """What the accounts that share give up together."""
        return math.fsum(share.loss for share in self.shares)


def cover_shortfall(
    account_id: str,
    shortfall: float,
    closed: Sequence[ClosedPosition],
    survivors: Survivors,
    fund: InsuranceFund | None,
    rules: LiquidationRules,
) -> Coverage:
    """Let fund, winners and all accounts pay what a closed account owes, in this order.

    Nothing is changed: `Coverage` says what is due.

    Parameters
    ----------
    account_id, shortfall:
        The account, and what it owes: above 0, settlement currency.
    closed:
        What its last step took off; nobody is deleveraged without.
    survivors:
        The other accounts.
    fund:
        None without one.
    rules:
        ``[liquidation]``.
    """
    paid = 0.0
    if fund is not None and rules.fund is not UNSET:
        paid = fund.payment(shortfall, rules.fund)
        fund = fund.pay(paid)
    left = shortfall - paid
    book, requirement, eligible = survivors.book, survivors.requirement, survivors.eligible
    contributions: list[Contribution] = []
    if left > 0.0 and closed and rules.deleverage is not UNSET:
        ranking = rules.deleverage.ranking
        winners = eligible if survivors.refused is None else eligible & ~survivors.refused
        contributions = share_loss(left, closed, book, requirement, winners, ranking)
    left = _rest(left, (part.loss for part in contributions), shortfall)
    shares: list[LossShare] = []
    if left > 0.0 and rules.loss_sharing is not UNSET:
        after = _after_deleverage(survivors, contributions)
        basis = rules.loss_sharing.basis
        shares = share_among_accounts(left, closed, book, after, eligible, basis)
    uncovered = _rest(left, (share.loss for share in shares), shortfall)
    return Coverage(
        account_id, shortfall, paid, tuple(contributions), tuple(shares), uncovered, fund
    )


def _rest(loss: float, parts: Iterable[float], shortfall: float) -> float:
    rest = loss - math.fsum(parts)
    return rest if rest > _ROUNDING * shortfall else 0.0


def _after_deleverage(survivors: Survivors, contributions: Sequence[Contribution]) -> Requirement:
    """Equity and unrealised profit without what winners have given up and closed."""
    requirement, book = survivors.requirement, survivors.book
    equity, profit = requirement.equity.copy(), requirement.leg_unrealised_pnl.copy()
    for part in contributions:
        equity[part.account] -= part.loss
        for leg in range(int(book.leg_start[part.account]), int(book.leg_start[part.account + 1])):
            if book.leg_instrument[leg] == part.instrument:
                profit[leg] *= 1.0 - part.share
    return replace(requirement, equity=equity, leg_unrealised_pnl=profit)


def account_party(account_id: str) -> str:
    """The party that an account is."""
    return f"account:{account_id}"


def step_transfers(
    before: Account, after: Account, step: Step, has_fund: bool
) -> tuple[Transfer, ...]:
    """Cash of a step: whoever fills the closes pays their worth at the mark, the account what it
    moved the price, and the fee to the fund, or to the venue where there is none."""
    party = account_party(before.account_id)
    worth = (after.cash - before.cash) + step.fee + step.impact
    return (
        *_signed(MARKET, party, worth, "close"),
        *_signed(party, MARKET, step.impact, "impact"),
        *_signed(party, FUND if has_fund else VENUE, step.fee, "fee"),
    )


def sale_transfers(
    before: Account, after: Account, sale: Sale, has_fund: bool
) -> tuple[Transfer, ...]:
    """Cash of a sale at auction: the buyer pays the worth at the mark and gets the discount."""
    party = account_party(before.account_id)
    worth = (after.cash - before.cash) + sale.step.fee + sale.discount
    return (
        *_signed(BUYER, party, worth, "sale"),
        *_signed(party, BUYER, sale.discount, "discount"),
        *_signed(party, FUND if has_fund else VENUE, sale.step.fee, "fee"),
    )


def take_over_transfers(
    before: Account, equity: float, step: Step, has_fund: bool
) -> tuple[Transfer, ...]:
    """Cash of an account that is taken over: it pays the fee; the backstop takes positions and
    collateral for what they count in equity, and the equity that is left with them."""
    party = account_party(before.account_id)
    return (
        *_signed(BACKSTOP, party, equity - before.cash, "close"),
        *_signed(party, FUND if has_fund else VENUE, step.fee, "fee"),
        *_signed(party, BACKSTOP, equity - step.fee, "take_over"),
    )


def deleverage_transfers(before: Account, after: Account, loss: float) -> tuple[Transfer, ...]:
    """Cash of a winner's close at the mark; its part of the loss is in `coverage_transfers`."""
    worth = (after.cash - before.cash) + loss
    return tuple(_signed(MARKET, account_party(before.account_id), worth, "close"))


def coverage_transfers(coverage: Coverage, book: Book) -> tuple[Transfer, ...]:
    """Cash that makes good what a closed account owes; what is uncovered is owed by nobody."""
    party = account_party(coverage.account_id)
    ids = book.account_ids
    return (
        *_signed(FUND, party, coverage.fund_paid, "fund"),
        *(
            transfer
            for part in coverage.contributions
            for transfer in _signed(
                account_party(ids[part.account]), party, part.loss, "deleverage"
            )
        ),
        *(
            transfer
            for share in coverage.shares
            for transfer in _signed(
                account_party(ids[share.account]), party, share.loss, "loss_sharing"
            )
        ),
        *_signed(UNCOVERED, party, coverage.uncovered, "uncovered"),
    )


def balances(transfers: Iterable[Transfer]) -> Mapping[str, float]:
    """What each party has received, less what it has paid."""
    parts: dict[str, list[float]] = defaultdict(list)
    for transfer in transfers:
        parts[transfer.payer].append(-transfer.amount)
        parts[transfer.payee].append(transfer.amount)
    return {party: math.fsum(amounts) for party, amounts in parts.items()}


def _signed(payer: str, payee: str, amount: float, reason: str) -> Iterator[Transfer]:
    """One transfer with an amount above 0, the other way round where it is below; none for 0."""
    if amount > 0.0:
        yield Transfer(payer, payee, amount, reason)
    elif amount < 0.0:
        yield Transfer(payee, payer, -amount, reason)
