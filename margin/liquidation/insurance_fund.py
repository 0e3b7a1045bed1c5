"""Insurance fund: what it takes in, and what it pays for accounts that end below zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from msgspec import UNSET

from margin.rules.liquidation import FundRules
from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class InsuranceFund:
    """A fund and its account book, settlement currency; the balance never falls below zero.

    Attributes
    ----------
    balance:
        What it holds now.
    fees, paid:
        Liquidation fees that it took in, and shortfalls that it paid.

    References
    ----------
    Bybit Help Center, "Insurance Fund"; dYdX, "Contract Loss Mechanisms".
    """

    balance: float
    fees: float = 0.0
    paid: float = 0.0

    @classmethod
    def of_rules(cls, rules: FundRules) -> InsuranceFund:
        """A fund with the balance that ``[liquidation.fund]`` gives; without one it is empty."""
        return cls(0.0 if rules.balance is UNSET else rules.balance)

    def collect(self, fee: float) -> InsuranceFund:
        """The fund once it has taken in a liquidation fee.

        Raises
        ------
        CaseError
            The fee is below 0 or not finite.
        """
        _check_amount("fee", fee)
        return replace(self, balance=self.balance + fee, fees=self.fees + fee)

    def payment(self, shortfall: float, rules: FundRules) -> float:
        """What it pays for one account: ``min(shortfall, balance, max_draw)``.

        Raises
        ------
        CaseError
            The shortfall is below 0 or not finite.
        """
        _check_amount("shortfall", shortfall)
        limit = math.inf if rules.max_draw is UNSET else rules.max_draw
        return min(shortfall, self.balance, limit)

    def pay(self, payment: float) -> InsuranceFund:
        """The fund once it has made a payment.

        Raises
        ------
        CaseError
            The payment is below 0 or more than the balance.
        """
        _check_amount("payment", payment)
        if payment > self.balance:
            raise CaseError(f"payment is {payment}; the fund holds {self.balance}")
        return replace(self, balance=self.balance - payment, paid=self.paid + payment)


def _check_amount(name: str, amount: float) -> None:
    if not 0.0 <= amount < math.inf:
        raise CaseError(f"{name} is {amount}; expected a finite amount of 0 or more")
