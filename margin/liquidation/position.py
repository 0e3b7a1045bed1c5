"""What the closed forms of one position ask of their input."""

from __future__ import annotations

import math

from market.core.errors import CaseError


def check_position(quantity: float, entry_price: float, balance: float) -> None:
    """Raise `CaseError` unless the numbers describe a position."""
    for name, value in (("quantity", quantity), ("entry price", entry_price), ("balance", balance)):
        if not math.isfinite(value):
            raise CaseError(f"{name} is {value}; expected a finite number")
    if quantity == 0.0:
        raise CaseError("quantity is 0; a flat position has no liquidation or bankruptcy price")
    if entry_price <= 0.0:
        raise CaseError(f"entry price is {entry_price}; expected a price above 0")
