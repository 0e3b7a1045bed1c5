"""Insurance fund: what it pays for an account that ends below nothing, and what is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class Draw:
    """What a fund gave or took, settlement currency.

    Attributes
    ----------
    shortfall:
        What was missing; 0 where something was left over.
    paid:
        By the fund.
    uncovered:
        Of the shortfall: the others bear it.
    gained:
        Left over and kept by the fund.
    fund:
        What it holds afterwards.
    """

    shortfall: float
    paid: float
    uncovered: float
    gained: float
    fund: float


def draw(equity: float, fund: float, *, max_draw: float = math.inf) -> Draw:
    """Settle an account that was closed: the fund pays a shortfall, and keeps what is left.

    Parameters
    ----------
    equity:
        Of the account after everything was closed, beyond what stays with its owner: below 0 a
        shortfall. At a close of q at price p beside a bankruptcy price b it is ``q (p - b)``.
    fund:
        What the fund holds, 0 or more.
    max_draw:
        Most that it pays for one account.

    Raises
    ------
    CaseError
        A number is not finite, or the fund or its limit is below 0.

    References
    ----------
    Bybit Help Center, "Insurance Fund"; dYdX, "Contract Loss Mechanisms".
    """
    if not math.isfinite(equity):
        raise CaseError(f"equity after the close is {equity}; expected a finite number")
    if not 0.0 <= fund < math.inf or not max_draw >= 0.0:
        raise CaseError(f"fund is {fund} and max_draw {max_draw}; expected 0 or more")
    if equity >= 0.0:
        return Draw(0.0, 0.0, 0.0, equity, fund + equity)
    paid = min(-equity, fund, max_draw)
    return Draw(-equity, paid, -equity - paid, 0.0, fund - paid)


def close_equity(quantity: float, close_price: float, bankruptcy_price: float) -> float:
    """``q (p - b)``: what a position closed at p leaves beside its bankruptcy price b, linear."""
    return quantity * (close_price - bankruptcy_price)
