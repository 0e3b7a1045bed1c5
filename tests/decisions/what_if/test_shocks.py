"""Shocks of prices and volatility: accounts revalued by hand, quotes, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from margin.cases.what_if_cases import what_if_case
from margin.pricing.black76 import black76_price
from margin.valuation.marks import option_vol
from margin.what_if.shocks import Shocks, shock_quotes
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

BTC, ETH = "BTCUSDT-PERP", "ETHUSDT-PERP"


def ask(endpoint: Any, account: Any, shocks: Any, **rest: Any) -> Any:
    body = {"accounts": [account], "shocks": shocks, **rest}
    answer = endpoint.client.post("/v1/what-if", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def marks(decision: Any) -> dict[str, float]:
    return {mark["instrument"]: mark["price"] for mark in decision["marks"]}


def linear(**changes: Any) -> dict[str, Any]:
    """A long with an entry price, a short without one, and a coin as collateral."""
    return {
        "account_id": "a",
        "cash": 4_000.0,
        "positions": [
            {"instrument": BTC, "quantity": 0.4, "entry_price": 30_000.0},
            {"instrument": ETH, "quantity": -2.0},
        ],
        "collateral": [],
    } | changes


def test_a_linear_account_is_revalued_as_by_hand(serve: Any, champion: str) -> None:
    endpoint = serve()
    answer = ask(endpoint, linear(), {"spot": {"BTC": -0.1, "*": 0.05}})
    before, after = (answer[name]["decisions"][0] for name in ("before", "after"))
    price, shocked = marks(before), marks(after)
    assert shocked[BTC] == pytest.approx(price[BTC] * 0.9, rel=1e-12)
    assert shocked[ETH] == pytest.approx(price[ETH] * 1.05, rel=1e-12)
    # The short without an entry price entered at the mark before the shock.
    equity = 4_000.0 + 0.4 * (shocked[BTC] - 30_000.0) - 2.0 * (shocked[ETH] - price[ETH])
    gross = 0.4 * shocked[BTC] + 2.0 * shocked[ETH]
    assert after["equity"] == pytest.approx(equity, rel=1e-9)
    assert after["maintenance_margin"] == pytest.approx(0.02 * gross, rel=1e-9)
    assert after["initial_margin"] == pytest.approx(0.04 * gross, rel=1e-9)
    assert after["headroom"] == pytest.approx(equity - 0.02 * gross, rel=1e-9)
    assert after["probability"]["24"] > before["probability"]["24"]


def test_a_trade_before_the_shock_enters_at_the_mark_before_it(serve: Any, champion: str) -> None:
    endpoint = serve()
    change = {
        "account_id": "a",
        "deposit": 500.0,
        "positions": [{"instrument": BTC, "quantity_delta": -0.4}],
    }
    answer = ask(endpoint, linear(), {"spot": {"BTCUSDT": -0.5}}, changes=[change])
    before, after = (answer[name]["decisions"][0] for name in ("before", "after"))
    # The position was closed before the fall: only the deposit changes the equity.
    assert after["equity"] == pytest.approx(before["equity"] + 500.0, rel=1e-9)


def test_remedies_are_those_of_the_shocked_market(serve: Any, champion: str) -> None:
    endpoint = serve()
    answer = ask(endpoint, linear(cash=2_000.0), {"spot": {"*": -0.2}}, target_headroom=0.0)
    after = answer["after"]["decisions"][0]
    (remedies,) = answer["remedies"]
    assert remedies["headroom"] == pytest.approx(after["headroom"], rel=1e-9)
    missing = max(0.0, -after["headroom"])
    assert remedies["deposit"] == pytest.approx(math.ceil(missing * 100.0) / 100.0, abs=0.011)


def test_no_shock_changes_nothing_to_the_last_bit(serve: Any, champion: str) -> None:
    answer = ask(serve(), linear(), {"spot": {"*": 0.0}, "volatility": 0.0})
    assert answer["before"] == answer["after"]


@pytest.mark.parametrize(
    ("shocks", "part"),
    [
        ({"spot": {"DOGECOIN": -0.1}}, "DOGECOIN"),
        ({"spot": {"BTC": -0.1, "BTCUSDT": -0.1}}, "twice"),
        ({"spot": {"BTC": -1.0}}, "-0.99"),
        ({"volatility": -1.0}, "-0.99"),
        ({"spots": {}}, "spots"),
    ],
)
def test_an_impossible_shock_is_422_and_says_why(serve: Any, shocks: Any, part: str) -> None:
    body = {"accounts": [linear()], "shocks": shocks}
    answer = serve().client.post("/v1/what-if", json=body)
    assert answer.status_code == 422
    assert part in answer.text


def test_a_surface_keeps_its_vol_at_each_strike_and_takes_the_volatility_shock() -> None:
    svi = (0.01, 0.05, -0.3, 0.02, 0.15)
    day = 86_400 * 10**9
    parametric = ExpiryQuote(ts=0, forward=100.0, rate=0.0, svi=svi)
    by_strike = ExpiryQuote(ts=0, forward=100.0, rate=0.0, vols={80.0: 0.7, 120.0: 0.5})
    board = QuoteBoard(
        {"BTC-27MAR26": parametric, "BTC-26JUN26": by_strike},
        {
            "BTC-27MAR26-100-C": InstrumentQuote(ts=0, vol=0.6),
            "BTCUSDT-PERP": InstrumentQuote(ts=0, mark=101.0, suspect_mark=150.0),
            "USDT": InstrumentQuote(ts=0, mark=0.999),
        },
    )
    shocks = Shocks(spot={"*": -0.2}, volatility=0.5)
    moved = shock_quotes(board, shocks, ["BTCUSDT", "ETHUSDT"])
    for name, expiry in board.expiries.items():
        other = moved.expiries[name]
        assert other.forward == pytest.approx(80.0)
        for strike in (60.0, 80.0, 95.0, 120.0, 200.0):
            before = option_vol(strike, 90 * day, None, expiry)
            after = option_vol(strike, 90 * day, None, other)
            assert before is not None
            assert after is not None
            assert after[0] == pytest.approx(1.5 * before[0], rel=1e-9)
    assert moved.instruments["BTC-27MAR26-100-C"].vol == pytest.approx(0.9)
    assert moved.instruments["BTCUSDT-PERP"].mark == pytest.approx(80.8)
    assert moved.instruments["BTCUSDT-PERP"].suspect_mark == pytest.approx(120.0)
    assert moved.instruments["USDT"] == board.instruments["USDT"]


def test_the_verb_takes_the_same_shocks_and_values_options_at_the_new_vol() -> None:
    seconds = 30 * 86_400.0
    case = {
        "id": "x",
        "ruleset": "derive-pmrm2",
        "portfolio": {
            "cash": 1_000.0,
            "stable_price": 1.0,
            "underlyings": {
                "BTC": {
                    "spot": 50_000.0,
                    "perp_price": 50_000.0,
                    "open_interest": 1_000.0,
                    "expiries": [{"seconds_to_expiry": seconds, "forward": 50_000.0, "rate": 0.0}],
                }
            },
            "positions": [
                {
                    "kind": "option",
                    "underlying": "BTC",
                    "quantity": 1.0,
                    "seconds_to_expiry": seconds,
                    "strike": 50_000.0,
                    "type": "call",
                    "vol": 0.5,
                }
            ],
            "collateral": [],
        },
        "what_if": {"shocks": {"spot": {"BTC": -0.1}, "volatility": 0.2}},
    }
    answer = what_if_case(json.dumps(case).encode())
    assert "error" not in answer, answer
    years = seconds / (365 * 86_400.0)
    value = float(black76_price(45_000.0, 50_000.0, years, 0.6, True, 0.0))
    assert answer["after"]["mark_to_market"] == pytest.approx(1_000.0 + value, rel=1e-6)
    case["what_if"] = {"shocks": {"spot": {"ETH": -0.1}}}
    assert "ETH" in what_if_case(json.dumps(case).encode())["error"]


def test_a_shock_finds_its_coin_by_name_by_symbol_and_by_the_rest() -> None:
    shocks = msgspec.convert({"spot": {"BTC": -0.1, "*": 0.2, "ETHUSDT": 0.3}}, Shocks)
    expected = {"BTC": 0.9, "BTCUSDT": 0.9, "ETH": 1.3, "ETHUSDT": 1.3, "SOLUSDT": 1.2}
    assert {name: shocks.multiple(name) for name in expected} == pytest.approx(expected)
    assert not Shocks(spot={"BTC": 0.0}).moves
