"""Default resources of a venue over time: the fund, and what all others have borne."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from msgspec import UNSET

from enforcement.liquidation.plan import Draft, held_quantity
from margin.liquidation.book_liquidation import close_at_mark
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.shortfall import ClosedPosition, Contribution
from margin.liquidation.waterfall import (
    Coverage,
    Survivors,
    Transfer,
    cover_shortfall,
    coverage_transfers,
    deleverage_transfers,
)
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account

_BOOKED = ("fee", "impact", "discount", "equity")


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the debt of one account was settled.

    Attributes
    ----------
    coverage:
        Who bears what.
    accounts:
        The winners and the accounts that share, as they are afterwards.
    drafts:
        What the venue is told about each winner: account and instruction.
    shares:
        What each account that shares the loss gives up.
    transfers:
        Cash that changes hands.
    """

    coverage: Coverage
    accounts: tuple[Account, ...]
    drafts: tuple[tuple[str, Draft], ...]
    shares: tuple[tuple[str, float], ...]
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True)
class Bearer:
    """An account that has to bear a part of a debt and that the venue has not reported since.

    Attributes
    ----------
    account_id:
        The account.
    instrument, quantity:
        What a winner is deleveraged in, and its position before; empty and 0 of one that shares.
    cash:
        Before.
    until:
        When it is not waited for any more, nanoseconds.
    """

    account_id: str
    instrument: str
    quantity: float
    cash: float
    until: int


@dataclass(frozen=True, slots=True)
class DefaultResources:
    """Default resources at one time, settlement currency; a value, never changed.

    Attributes
    ----------
    fund:
        None while no rule set in force has had one.
    fees:
        Liquidation fees, whoever took them.
    impact, discounts:
        What closes cost beside the mark, and what buyers at auction gained.
    taken_over:
        Equity that the backstop took with accounts.
    shortfall, deleveraged, shared, uncovered:
        What accounts owed, and who bore it beside the fund.
    bearers:
        Accounts that the venue has not reported since they had to bear a part of a debt.
    """

    fund: InsuranceFund | None = None
    fees: float = 0.0
    impact: float = 0.0
    discounts: float = 0.0
    taken_over: float = 0.0
    shortfall: float = 0.0
    deleveraged: float = 0.0
    shared: float = 0.0
    uncovered: float = 0.0
    bearers: tuple[Bearer, ...] = ()

    @property
    def fund_balance(self) -> float:
        """Of the fund; 0 without one."""
        return 0.0 if self.fund is None else self.fund.balance

    def taken_back(self, winner: str, loss: float) -> DefaultResources:
        """These resources once a winner has not borne a part of a debt, which is open again."""
        return replace(
            self.without_bearers([winner]),
            shortfall=self.shortfall - loss,
            deleveraged=self.deleveraged - loss,
        )

    def without_bearers(self, account_ids: Iterable[str]) -> DefaultResources:
        """These resources once some accounts are not waited for any more."""
        gone = set(account_ids)
        if not gone:
            return self
        return replace(
            self, bearers=tuple(one for one in self.bearers if one.account_id not in gone)
        )

    def under(self, ruleset: RuleSet) -> DefaultResources:
        """These resources once a rule set is in force: a fund opens with the first that has one."""
        rules = ruleset.liquidation_or_default.fund
        if self.fund is not None or rules is UNSET:
            return self
        return replace(self, fund=InsuranceFund.of_rules(rules))

    def after_fill(self, parameters: Mapping[str, Any], part: float) -> DefaultResources:
        """These resources once an instruction is carried out.

        Parameters
        ----------
        parameters:
            Of the instruction, see `enforcement.liquidation.plan.plan_step`: ``fee``, ``impact``
            and ``discount``, and the ``equity`` of a transfer to the backstop.
        part:
            Of its quantity that was traded, 0 to 1.
        """
        booked = {name: part * float(parameters.get(name, 0.0)) for name in _BOOKED}
        return replace(
            self,
            fund=None if self.fund is None else self.fund.collect(booked["fee"]),
            fees=self.fees + booked["fee"],
            impact=self.impact + booked["impact"],
            discounts=self.discounts + booked["discount"],
            taken_over=self.taken_over + booked["equity"],
        )

    def settle(
        self,
        debtor: Account,
        shortfall: float,
        closed: Sequence[ClosedPosition],
        survivors: Survivors,
        market: tuple[MarketView, RuleSet],
        until: int,
    ) -> tuple[DefaultResources, Settlement]:
        """Settle what an account owes, see `margin.liquidation.waterfall.cover_shortfall`.

        Parameters
        ----------
        debtor:
            Without positions.
        shortfall:
            Above 0.
        closed:
            What its last step took off.
        survivors:
            The other accounts.
        market:
            Market and rules.
        until:
            How long the venue is waited for to report the accounts that bear a part, nanoseconds.

        Returns
        -------
        The resources afterwards, and the settlement.
        """
        view, ruleset = market
        coverage = cover_shortfall(
            debtor.account_id,
            shortfall,
            closed,
            survivors,
            self.fund,
            ruleset.liquidation_or_default,
        )
        accounts, transfers = _charge(coverage, survivors, view, ruleset)
        after = replace(
            self,
            fund=coverage.fund,
            shortfall=self.shortfall + shortfall,
            deleveraged=self.deleveraged + coverage.deleveraged,
            shared=self.shared + coverage.shared,
            uncovered=self.uncovered + coverage.uncovered,
            bearers=(*self.bearers, *_bearers(coverage, survivors, until)),
        )
        ids = survivors.book.account_ids
        drafts = tuple(
            (ids[part.account], _deleverage_draft(part, debtor.account_id))
            for part in coverage.contributions
        )
        shares = tuple((ids[share.account], share.loss) for share in coverage.shares)
        flows = (*coverage_transfers(coverage, survivors.book), *transfers)
        return after, Settlement(coverage, accounts, drafts, shares, flows)

    def to_content(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> DefaultResources:
        """The resources that `to_content` wrote."""
        fund = content["fund"]
        read: dict[str, Any] = {"fund": None if fund is None else InsuranceFund(**fund)}
        read["bearers"] = tuple(Bearer(**one) for one in content.get("bearers", ()))
        return cls(**{**content, **read})


def settlement_payload(settlement: Settlement, resources: DefaultResources) -> dict[str, Any]:
    """A settlement as records of the kind ``default_resources`` hold it.

    ``shares``: what each account gives up that shares the loss; winners get instructions instead.
    """
    coverage = settlement.coverage
    return {
        "shortfall": coverage.shortfall,
        "fund_paid": coverage.fund_paid,
        "deleveraged": coverage.deleveraged,
        "shared": coverage.shared,
        "shares": dict(settlement.shares),
        "uncovered": coverage.uncovered,
        "fund_balance": resources.fund_balance,
    }


def _bearers(coverage: Coverage, survivors: Survivors, until: int) -> Iterator[Bearer]:
    for part in coverage.contributions:
        account = _account(survivors, part.account)
        held = held_quantity(account, part.instrument)
        yield Bearer(account.account_id, part.instrument, held, account.cash, until)
    for share in coverage.shares:
        account = _account(survivors, share.account)
        yield Bearer(account.account_id, "", 0.0, account.cash, until)


def _charge(
    coverage: Coverage, survivors: Survivors, view: MarketView, ruleset: RuleSet
) -> tuple[tuple[Account, ...], tuple[Transfer, ...]]:
    """The accounts that bear a part of a loss, afterwards, and the cash of their closes."""
    parts: dict[int, list[Contribution]] = defaultdict(list)
    for part in coverage.contributions:
        parts[part.account].append(part)
    shared: dict[int, float] = defaultdict(float)
    for share in coverage.shares:
        shared[share.account] += share.loss
    accounts, transfers = list[Account](), list[Transfer]()
    for i in sorted(parts.keys() | shared.keys()):
        account = _account(survivors, i)
        if i in parts:
            closed = {part.instrument: part.share for part in parts[i]}
            shares = np.array([closed.get(leg.instrument, 0.0) for leg in account.positions])
            loss = math.fsum(part.loss for part in parts[i])
            after = close_at_mark(account, view, ruleset, shares, loss)
            transfers += deleverage_transfers(account, after, loss)
            account = after
        accounts.append(replace(account, cash=account.cash - shared[i]))
    return tuple(accounts), tuple(transfers)


def _account(survivors: Survivors, i: int) -> Account:
    (account,) = survivors.book.take(np.array([i], dtype=np.int64)).accounts()
    return account


def _deleverage_draft(part: Contribution, bankrupt: str) -> Draft:
    return Draft(
        "deleverage",
        {
            "instrument": part.instrument,
            "quantity": -part.quantity,
            "price": part.price,
            "loss": part.loss,
            "rank": part.rank,
            "bankrupt_account": bankrupt,
        },
    )
