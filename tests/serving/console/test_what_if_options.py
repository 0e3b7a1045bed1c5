"""The scenario heat map of an account with options and collateral, against its own revaluation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from margin.pricing.black76 import black76_price
from margin.rules.ruleset import RuleSet, load_ruleset
from market.core.clock import parse_time
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

PERP, EXPIRY = "BTCUSDT-PERP", "BTC-25DEC37"
CALL, PUT = f"{EXPIRY}-60000-C", f"{EXPIRY}-45000-P"
STRIKES = {CALL: 60_000.0, PUT: 45_000.0}
VOLS = {45_000.0: 0.8, 60_000.0: 0.6}
FORWARD = 52_000.0
QUANTITIES = {PERP: 0.4, CALL: -0.3, PUT: 0.2}


@pytest.fixture
def ruleset() -> RuleSet:
    """Rules that margin options; coins count as collateral with a haircut."""
    return load_ruleset("derive-srm")


@pytest.fixture
def hedged(desk: Desk) -> Desk:
    """The desk with the account ``hedged``: a perpetual, options on both sides and a coin."""
    quotes = [
        {"instrument": EXPIRY, "forward": FORWARD, "rate": 0.0}
        | {"vols": {f"{strike:.0f}": vol for strike, vol in VOLS.items()}}
    ]
    answer = desk.post("/v1/market/quotes", {"quotes": quotes}, "market")
    assert answer.status_code == 200, answer.text
    legs = [{"instrument": name, "quantity": held} for name, held in QUANTITIES.items()]
    held = {
        "cash": 9_000.0,
        "positions": legs,
        "collateral": [{"asset": "ETH", "amount": 3.0}, {"asset": "USDC", "amount": 500.0}],
    }
    desk.watched.update({"account_id": "hedged", "sequence": 1, "snapshot": held})
    return desk


def part(desk: Desk, query: str) -> str:
    client = desk.endpoint.client
    headers = desk.key("read") | {"X-Fragment": "result"}
    answer = client.get(f"/what-if?account=hedged{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def heat(desk: Desk, query: str = "") -> dict[str, Any]:
    figure = re.search(
        r'<script type="application/json" class="figure">(.*?)</script>', part(desk, query)
    )
    assert figure is not None
    return dict(json.loads(figure[1])["data"][0])


def decided(desk: Desk, **rest: Any) -> tuple[Any, Any]:
    account = desk.get("/v1/accounts/hedged")["account"]
    names = ("account_id", "cash", "positions", "collateral")
    body = {"accounts": [{name: account[name] for name in names}], **rest}
    answer = desk.post("/v1/what-if", body, "score")
    assert answer.status_code == 200, answer.text
    both = answer.json()
    return both["before"]["decisions"][0], both["after"]["decisions"][0]


CELLS = [(-30, -50), (-10, 100), (0, 0), (0, 25), (15, -25), (30, 100)]


@pytest.mark.parametrize("kind", ["headroom", "probability"])
def test_each_cell_is_what_the_api_decides_in_that_market(hedged: Desk, kind: str) -> None:
    shown = heat(hedged, f"&heat={kind}")
    for spot, vol in CELLS:
        shocks = {"spot": {"*": spot / 100.0}, "volatility": vol / 100.0}
        _, after = decided(hedged, shocks=shocks)
        cell = shown["z"][shown["y"].index(f"{vol:+d}%")][shown["x"].index(f"{spot:+d}%")]
        expected = after["headroom"] if kind == "headroom" else after["probability"]["24"]
        assert cell == pytest.approx(expected, rel=1e-12), (spot, vol)


def test_the_cell_without_shocks_is_the_account_as_it_stands(hedged: Desk) -> None:
    shown = heat(hedged)
    before, after = decided(hedged, shocks={"spot": {"*": 0.0}})
    assert before == after
    cell = shown["z"][shown["y"].index("+0%")][shown["x"].index("+0%")]
    assert cell == before["headroom"]


def test_equity_after_shocks_is_that_of_a_revaluation_by_hand(hedged: Desk) -> None:
    for spot, vol in CELLS:
        shocks = {"spot": {"*": spot / 100.0}, "volatility": vol / 100.0}
        before, after = decided(hedged, shocks=shocks)
        marks = {mark["instrument"]: mark["price"] for mark in before["marks"]}
        multiple = 1.0 + spot / 100.0
        seconds = (parse_time("2037-12-25T08:00:00Z") - parse_time(before["as_of"])) / 1e9
        years = seconds / (365.0 * 86_400.0)
        equity = 9_000.0 + 500.0 + 0.8 * 3.0 * marks["ETHUSDT"] * multiple
        equity += QUANTITIES[PERP] * marks[PERP] * (multiple - 1.0)
        for name, strike in STRIKES.items():
            sigma = VOLS[strike] * (1.0 + vol / 100.0)
            forward = FORWARD * multiple
            price = float(black76_price(forward, strike, years, sigma, name.endswith("C"), 0.0))
            equity += QUANTITIES[name] * price
        assert after["equity"] == pytest.approx(equity, rel=1e-9), (spot, vol)
