"""Insurance fund: what it takes in, and what it pays for accounts that end below zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

from msgspec import UNSET

from margin.rules.liquidation import FundRules
from market.core.errors import CaseError


@dataclass(slots=True)
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

    def collect(self, fee: float) -> None:
        """Take in a liquidation fee."""
        _check_amount("fee", fee)
        self.balance += fee
        self.fees += fee

    def pay(self, shortfall: float, rules: FundRules) -> float:
        """Pay for one account: ``min(shortfall, balance, max_draw)``, which is returned.

        Raises
        ------
        CaseError
            The shortfall is below 0 or not finite.
        """
        _check_amount("shortfall", shortfall)
        limit = math.inf if rules.max_draw is UNSET else rules.max_draw
        payment = min(shortfall, self.balance, limit)
        self.balance -= payment
        self.paid += payment
        return payment


def _check_amount(name: str, amount: float) -> None:
    if not 0.0 <= amount < math.inf:
        raise CaseError(f"{name} is {amount}; expected a finite amount of 0 or more")
