"""Fills: against the account, within the limit, and of what was asked."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, strategies as st

from pipelines.venue.fills import carry_out


def close(name: str, quantity: float, **parameters: Any) -> dict[str, Any]:
    return {
        "event_id": name,
        "kind": "close",
        "parameters": {"instrument": "BTCUSDT-PERP", "quantity": quantity, **parameters},
    }


@given(
    st.text(max_size=10),
    st.floats(-1e4, 1e4).filter(lambda quantity: abs(quantity) > 1e-6),
    st.floats(0.01, 1e5),
    st.floats(0.0, 1e10),
    st.floats(0.8, 1.2),
)
def test_a_fill_is_a_part_of_the_close_within_its_limit(
    name: str, quantity: float, mark: float, turnover: float, limit: float
) -> None:
    carried = carry_out(close(name, quantity, limit_price=mark * limit), 7, mark, turnover)
    answer = carried.answer
    if answer["status"] == "rejected":
        assert carried.deltas == []
        assert "quantity" not in answer
        return
    (fill,) = carried.deltas
    assert (fill["quantity"], fill["price"]) == (answer["quantity"], answer["price"])
    assert 0.0 < fill["quantity"] / quantity <= 1.0
    assert (answer["status"] == "filled") == (fill["quantity"] == quantity)
    side = math.copysign(1.0, quantity)
    assert side * (fill["price"] - mark) > 0.0
    assert side * (fill["price"] - mark * limit) <= 1e-6 * mark
    assert fill["fee"] >= 0.0


def test_larger_closes_are_filled_at_worse_prices() -> None:
    name = next(
        n
        for n in map(str, range(99))
        if carry_out(close(n, 1.0), 7, 1.0, 1e9).answer["status"] == "filled"
    )
    prices = [carry_out(close(name, -q), 7, 100.0, 1e6).answer["price"] for q in (1, 100, 1_000)]
    assert 100.0 > prices[0] > prices[1] > prices[2]


def test_some_closes_are_rejected_and_some_halved() -> None:
    statuses = [carry_out(close(str(n), 2.0), 7, 1.0, 1e9).answer for n in range(2_000)]
    shares = {s: sum(a["status"] == s for a in statuses) / 2_000 for s in ("rejected", "filled")}
    assert 0.03 < shares["rejected"] < 0.07
    assert 0.82 < shares["filled"] < 0.88
    assert {a.get("quantity") for a in statuses} == {None, 1.0, 2.0}


def test_other_instructions_are_confirmed_or_refused_without_a_trade() -> None:
    for kind, status in (
        ("cancel_orders", "filled"),
        ("reduce_only", "filled"),
        ("auction", "rejected"),
    ):
        event = {"event_id": "i-1", "kind": kind, "parameters": {"share": 0.5}}
        carried = carry_out(event, 7, 100.0, 1e9)
        assert (carried.answer["status"], carried.deltas) == (status, [])


def test_without_a_market_nothing_is_filled() -> None:
    carried = carry_out(close("i-1", 1.0), 7, math.nan, 0.0)
    assert carried.answer == {"status": "rejected", "reason": "no market"}
