"""Closed forms of venues, against which the search over prices is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

Bracket = tuple[float, float, float]
"""Upper bound on the notional, maintenance rate, deduction."""

ClosedForm = Callable[[float, float, float, Sequence[Bracket]], float | None]


@pytest.fixture(scope="session")
def closed_form() -> ClosedForm:
    """Liquidation price of one linear position: ``balance + q (p - entry) = |q| p rate_k - d_k``.

    ``p = (balance + d_k - q entry) / (|q| rate_k - q)`` in the bracket k that holds ``|q| p``; None
    where no price above 0 does it. `balance` is wallet - margin of the others + profit of the
    others (Binance, "How to Calculate Liquidation Price of USD-M Futures Contracts"). A bracket
    without rate gives the bankruptcy price.
    """

    def price(
        quantity: float, entry: float, balance: float, brackets: Sequence[Bracket]
    ) -> float | None:
        lower = 0.0
        for bound, rate, deduction in brackets:
            slope = abs(quantity) * rate - quantity
            at = (balance + deduction - quantity * entry) / slope
            if (
                at > 0.0
                and lower <= abs(quantity) * at * (1.0 + 1e-12)
                and abs(quantity) * at <= (bound * (1.0 + 1e-12))
            ):
                return at
            lower = bound
        return None

    return price
