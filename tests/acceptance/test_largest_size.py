"""A size that what-if advises triggers no call at the same market state."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any


def account(name: str, cash: float, quantity: float, price: float) -> dict[str, Any]:
    position = {"instrument": "BTCUSDT-PERP", "quantity": quantity, "entry_price": price}
    positions = [position] if quantity else []
    return {"account_id": name, "cash": cash, "positions": positions, "collateral": []}


def largest(endpoint: Endpoint, held: dict[str, Any], side: str) -> float:
    question = {"account_id": held["account_id"], "instrument": "BTCUSDT-PERP", "side": side}
    answer = endpoint.post("/v1/what-if", {"accounts": [held], "largest": [question]})
    (found,) = answer["largest"]
    assert found["unlimited"] is False
    quantity: float = found["quantity"]
    return quantity


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_the_largest_size_meets_the_opening_requirement_and_little_more(
    served: Endpoint, preset: str, side: str
) -> None:
    price = served.market.closes["BTCUSDT"]
    cash = 1_000.0
    size = largest(served, account("asks", cash, 0.0, price), side)
    assert (size > 0.0) == (side == "buy")
    decided = served.score(
        account(f"opens-{side}", cash, size, price),
        account(f"beyond-{side}", cash, size * 1.03, price),
    )
    opened, beyond = decided[f"opens-{side}"], decided[f"beyond-{side}"]
    assert opened["equity"] == pytest.approx(cash, rel=1e-12)
    assert opened["opening_requirement"] <= opened["equity"] * (1.0 + 1e-9)
    assert opened["deposit_to_meet"] == 0.0
    assert opened["equity"] >= opened["initial_margin"] * (1.0 - 1e-9)
    assert beyond["opening_requirement"] > beyond["equity"], preset


def test_the_largest_size_follows_a_quoted_mark(served: Endpoint) -> None:
    """At half the price of a coin about twice the size fits."""
    price = served.market.closes["BTCUSDT"]
    held = account("asks", 1_000.0, 0.0, price)
    before = largest(served, held, "buy")
    half = price * 0.5
    served.marks(served.at(minutes=5), BTCUSDT_PERP=half, BTCUSDT=half)
    after = largest(served, held, "buy")
    assert after == pytest.approx(2.0 * before, rel=0.1)
    opened = served.decision(account("opened", 1_000.0, after, half))
    assert opened["deposit_to_meet"] == 0.0
    assert opened["opening_requirement"] <= 1_000.0 * (1.0 + 1e-9)
