"""Initial margin of venues that take it on the whole notional, over HTTP and in cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Start: TypeAlias = Callable[..., Endpoint]

WORKED = [
    # rule set, notional, initial margin: notional times the rate of the bracket that holds it
    ("binance-usdm", 40_000.0, 320.0),
    ("binance-usdm", 10_000_000.0, 200_000.0),
    ("binance-usdm", 480_000_000.0, 96_000_000.0),
    ("binance-usdm", 480_000_100.0, 120_000_025.0),
    ("hyperliquid", 150_000_000.0, 3_750_000.0),
    ("hyperliquid", 200_000_000.0, 10_000_000.0),
]


@pytest.fixture(scope="module")
def venues_served(start: Start) -> dict[str, Endpoint]:
    return {name: start(name) for name in ("binance-usdm", "hyperliquid")}


def _case(name: str, quantity: float, price: float) -> dict[str, Any]:
    underlying = {
        "spot": price,
        "spot_confidence": 1.0,
        "perp_price": price,
        "perp_confidence": 1.0,
        "expiries": [],
    }
    perp = {
        "kind": "perp",
        "underlying": "BTC",
        "quantity": quantity,
        "unrealised_pnl": 0.0,
        "unrealised_funding": 0.0,
    }
    portfolio = {
        "cash": 0.0,
        "stable_price": 1.0,
        "underlyings": {"BTC": underlying},
        "positions": [perp],
        "collateral": [],
    }
    return {"id": "case", "ruleset": name, "portfolio": portfolio}


@pytest.mark.parametrize(("name", "notional", "initial"), WORKED)
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_initial_margin_is_that_of_the_whole_notional(
    venues_served: dict[str, Endpoint], name: str, notional: float, initial: float, side: float
) -> None:
    endpoint = venues_served[name]
    price = endpoint.market.closes["BTCUSDT"]
    quantity = side * notional / price
    # A whole notional on the boundary of a bracket belongs to it, whatever the product rounds to.
    quantity *= 1.0 - 1e-12
    position = {"instrument": "BTCUSDT-PERP", "quantity": quantity, "entry_price": price}
    held = {"account_id": "a", "cash": notional, "positions": [position], "collateral": []}
    decision = endpoint.decision(held)
    assert decision["initial_margin"] == pytest.approx(initial, rel=1e-9)
    assert decision["cap"] == pytest.approx(3.0 * initial, rel=1e-9)
    assert decision["opening_requirement"] >= decision["initial_margin"]
    cases, out = endpoint.folder / "cases.jsonl", endpoint.folder / "margins.jsonl"
    cases.write_text(json.dumps(_case(name, quantity, price)) + "\n")
    done = endpoint.cli("margin", "--cases", cases, "--out", out)
    assert done.code == 0, out.read_text()
    assert json.loads(out.read_text())["initial_net_margin"] == pytest.approx(-initial, rel=1e-9)
