"""Liquidation price of one position under brackets, in closed form.

The right bracket is that of the notional **at the liquidation price**. The net margin is
continuous and monotone in the price, so exactly one bracket holds its root, and the signs at the
bounds of the brackets tell which: no bracket is guessed and none tried twice.

Where a maintenance margin is a fixed share of the notional (dYdX, Hyperliquid within a tier, Drift
at a given size) this is their published formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.engines.tier.tiers import bracket_table
from margin.liquidation.position import check_position
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]
_Passed = Callable[[int, float], bool]


@dataclass(frozen=True, slots=True)
class MaintenanceBrackets:
    """Maintenance margin ``notional * rate_k - deduction_k`` of one symbol.

    Attributes
    ----------
    bounds, rates, deductions:
        Shape (B,): upper bound of each bracket, the last infinite; share; amount.
    """

    bounds: Floats
    rates: Floats
    deductions: Floats

    @classmethod
    def flat(cls, rate: float) -> MaintenanceBrackets:
        """One rate for every notional."""
        return cls(np.array([np.inf]), np.array([rate]), np.zeros(1))

    @classmethod
    def of_symbol(cls, ruleset: RuleSet, symbol: str) -> MaintenanceBrackets:
        """Those of a rule set of the tier engine."""
        table = bracket_table(ruleset, (symbol,))
        return cls(table.bounds[0], table.maintenance_rates[0], table.maintenance_deductions[0])


def liquidation_price(
    quantity: float, entry_price: float, balance: float, brackets: MaintenanceBrackets
) -> float | None:
    """Price p with ``balance + q (p - entry) = |q| p rate_k - deduction_k``, linear.

    ``p = (balance + deduction_k - q entry) / (|q| rate_k - q)``.

    Parameters
    ----------
    quantity:
        Signed, units of the underlying.
    entry_price:
        Settlement currency.
    balance:
        Cross: ``wallet - maintenance margin of the others + profit of the others``. Isolated:
        the margin of the position.
    brackets:
        On the notional in the settlement currency.

    Returns
    -------
    None where no price above 0 does it, see `margin.liquidation.bankruptcy.bankruptcy_price`.

    Raises
    ------
    CaseError
        A number is not finite, the quantity is 0 or the entry price not above 0.

    References
    ----------
    Binance, "How to Calculate Liquidation Price of USD-M Futures Contracts"; dYdX, "Liquidations"
    (``p' = (e - s p) / (|s| MMF - s)``); Hyperliquid, "Liquidations".
    """
    check_position(quantity, entry_price, balance)
    size = abs(quantity)

    def net(k: int, notional: float) -> float:
        held = balance + quantity * (notional / size - entry_price)
        return held - (notional * float(brackets.rates[k]) - float(brackets.deductions[k]))

    # A long gains with the notional, a short loses.
    k = _bracket(brackets, lambda k, bound: net(k, bound) * quantity >= 0.0)
    rate, deduction = float(brackets.rates[k]), float(brackets.deductions[k])
    slope = size * rate - quantity
    if slope == 0.0:
        return None
    price = (balance + deduction - quantity * entry_price) / slope
    return price if 0.0 < price < np.inf else None


def inverse_liquidation_price(
    size: float, entry_price: float, balance: float, brackets: MaintenanceBrackets
) -> float | None:
    """Price p with ``balance + size (1/entry - 1/p) = (|size| / p) rate_k - deduction_k``.

    ``p = (|size| rate_k + size) / (balance + deduction_k + size / entry)``, coin-settled.

    Parameters
    ----------
    size:
        Signed, in units of the quote.
    entry_price:
        Quote per coin.
    balance:
        In coin; as in `liquidation_price`.
    brackets:
        On the notional in coin, ``|size| / p``.

    Returns
    -------
    None where no price does it: a short whose balance in coin outweighs its size.

    References
    ----------
    Binance, "How to Calculate Liquidation Price of COIN-M Futures Contracts".
    """
    check_position(size, entry_price, balance)
    units, side = abs(size), 1.0 if size > 0.0 else -1.0

    def net(k: int, coins: float) -> float:
        held = balance + size / entry_price - side * coins
        return held - (coins * float(brackets.rates[k]) - float(brackets.deductions[k]))

    # In coin a long loses as its notional in coin grows, and a short gains.
    k = _bracket(brackets, lambda k, bound: net(k, bound) * side <= 0.0)
    rate, deduction = float(brackets.rates[k]), float(brackets.deductions[k])
    coins = balance + deduction + size / entry_price
    if coins == 0.0:
        return None
    price = (units * rate + size) / coins
    return price if 0.0 < price < np.inf else None


def _bracket(brackets: MaintenanceBrackets, passed: _Passed) -> int:
    """First bracket at whose upper bound the root has been passed; the last has no bound."""
    for k, bound in enumerate(brackets.bounds.tolist()):
        if not np.isfinite(bound) or passed(k, bound):
            return k
    return len(brackets.bounds) - 1
