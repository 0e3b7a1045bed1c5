"""Remedies, marginal requirements and largest sizes over HTTP: what they say comes true."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from margin.floors.depth import half_spreads
from margin.rules.history import load_history
from margin.rules.ruleset import load_ruleset
from market.core.clock import DAY

RULES = ("linear-tiers", "derive-srm", "derive-pmrm2", "deribit-standard")
PERP = "BTCUSDT-PERP"


@pytest.fixture
def spot(market: Any) -> float:
    return float(market.panel.values[-1, market.panel.symbols.index("BTCUSDT"), 3])


@pytest.fixture
def option(market: Any, spot: float) -> str:
    """A call a tenth above the market, a month away."""
    day = datetime.fromtimestamp((int(market.panel.closes[-1]) + 30 * DAY) / 1e9, UTC)
    return f"BTC-{day.day}{day:%b%y}-{round(1.1 * spot)}-C".upper()


@pytest.fixture
def ready(serve: Any, option: str, spot: float) -> Any:
    """An endpoint under a rule set, its option quoted."""

    def make(rules: str) -> Any:
        endpoint = serve(rules=load_history(rules))
        expiry = option.rsplit("-", 2)[0]
        quotes = [
            {"instrument": expiry, "forward": 1.01 * spot, "rate": 0.03},
            {"instrument": option, "vol": 0.6},
        ]
        body = endpoint.client.post("/v1/market/quotes", json={"quotes": quotes}).json()
        assert {result["status"] for result in body["results"]} == {"applied"}
        return endpoint

    return make


@pytest.fixture
def hurt(spot: float, option: str) -> Any:
    """An account that lacks margin: a perp and, where the rules margin options, a short call."""

    def make(rules: str) -> dict[str, Any]:
        second = "ETHUSDT-PERP" if rules == "linear-tiers" else option
        positions = [
            {"instrument": PERP, "quantity": 1.0},
            {"instrument": second, "quantity": -1.0},
        ]
        return {"account_id": "a", "cash": 0.001 * spot, "positions": positions}

    return make


def ask(endpoint: Any, account: dict[str, Any], **rest: Any) -> Any:
    return endpoint.client.post("/v1/what-if", json={"accounts": [account], **rest})


def headroom(endpoint: Any, account: dict[str, Any], change: dict[str, Any]) -> float:
    answer = ask(endpoint, account, changes=[{"account_id": "a", **change}]).json()
    return float(answer["after"]["decisions"][0]["headroom"])


@pytest.mark.parametrize("rules", RULES)
def test_deposit_and_plan_reach_the_target_and_a_cent_less_does_not(
    ready: Any, hurt: Any, rules: str, spot: float, market: Any
) -> None:
    endpoint, account = ready(rules), hurt(rules)
    target = 0.01 * spot
    answer = ask(endpoint, account, target_headroom=target).json()
    (remedy,) = answer["remedies"]
    assert "marginal" not in answer
    assert "largest" not in answer
    now = answer["before"]["decisions"][0]["headroom"]
    assert remedy["headroom"] == pytest.approx(now, rel=1e-9, abs=1e-6)
    assert now < target
    assert headroom(endpoint, account, {"deposit": remedy["deposit"]}) >= target - 1e-6
    assert headroom(endpoint, account, {"deposit": remedy["deposit"] - 0.02}) < target
    trades = [
        {"instrument": cut["instrument"], "quantity_delta": cut["quantity"]}
        for cut in remedy["plan"]
    ]
    paid = sum(cut["cost"] for cut in remedy["plan"])
    reached = headroom(endpoint, account, {"positions": trades, "deposit": -paid})
    assert reached + remedy["deposit_after_plan"] >= target - 1e-4
    assert [cut["cost"] for cut in remedy["single"]] == sorted(
        cut["cost"] for cut in remedy["single"]
    )
    for cut in remedy["single"] + remedy["plan"]:
        on = "ETHUSDT" if cut["instrument"].startswith("ETH") else "BTCUSDT"
        price = float(market.panel.values[-1, market.panel.symbols.index(on), 3])
        assert cut["cost"] == pytest.approx(0.0005 * abs(cut["quantity"]) * price, rel=1e-9)
    assert list(endpoint.ledger.records("decision")) == []


@pytest.mark.parametrize("rules", RULES)
def test_marginal_is_what_the_requirement_loses_without_the_position(
    ready: Any, hurt: Any, rules: str
) -> None:
    endpoint, account = ready(rules), hurt(rules)
    answer = ask(endpoint, account, marginal=True).json()
    (found,) = answer["marginal"]
    by_name = {one["instrument"]: one for one in found["positions"]}
    assert set(by_name) == {position["instrument"] for position in account["positions"]}
    before = answer["before"]["decisions"][0]
    for position in account["positions"]:
        name = position["instrument"]
        trade = {"instrument": name, "quantity_delta": -position["quantity"]}
        freed = headroom(endpoint, account, {"positions": [trade]}) - before["headroom"]
        assert by_name[name]["maintenance"] == pytest.approx(freed, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_largest_size_meets_the_opening_requirement_and_a_little_more_does_not(
    ready: Any, rules: str, side: str, spot: float, option: str
) -> None:
    endpoint = ready(rules)
    name = PERP if rules == "linear-tiers" else option
    account = {"account_id": "a", "cash": 3.0 * spot, "positions": []}
    asked = [{"account_id": "a", "instrument": name, "side": side}]
    (found,) = ask(endpoint, account, largest=asked).json()["largest"]
    if found["unlimited"]:  # a bought option that counts at its full value
        assert side == "buy"
        assert found["quantity"] is None
        return
    assert (found["quantity"] > 0.0) == (side == "buy")

    def free(size: float) -> float:
        trade = {"instrument": name, "quantity_delta": size * found["quantity"]}
        change = {"account_id": "a", "positions": [trade]}
        after = ask(endpoint, account, changes=[change]).json()["after"]["decisions"][0]
        return float(after["equity"] - after["opening_requirement"])

    assert free(1.0) >= -1e-6
    assert free(1.0 + 1e-6) < 0.0


def test_a_trade_that_cannot_be_sized_has_a_detail_and_the_rest_has_results(
    ready: Any, hurt: Any, option: str
) -> None:
    endpoint, account = ready("derive-srm"), hurt("derive-srm")
    other = option.replace(option.split("-")[1], "29DEC45")
    asked = [
        {"account_id": "a", "instrument": name, "side": "sell"}
        for name in (other, "NOPEUSDT", PERP)
    ]
    unquoted, unknown, perp = ask(endpoint, account, largest=asked).json()["largest"]
    assert "/v1/market/quotes" in unquoted["detail"]
    assert unknown["quantity"] is None
    assert "NOPEUSDT" in unknown["detail"]
    assert perp["quantity"] is not None
    assert "detail" not in perp


def test_an_account_without_a_requirement_is_not_analysed(ready: Any, hurt: Any) -> None:
    endpoint, good = ready("derive-srm"), hurt("derive-srm")
    bad = {**good, "account_id": "b", "positions": [{"instrument": "NOPEUSDT", "quantity": 1.0}]}
    body = {
        "accounts": [good, bad],
        "target_headroom": 0.0,
        "marginal": True,
        "largest": [{"account_id": "b", "instrument": PERP, "side": "buy"}],
    }
    answer = endpoint.client.post("/v1/what-if", json=body).json()
    assert [error["account_id"] for error in answer["before"]["errors"]] == ["b"]
    assert [one["account_id"] for one in answer["remedies"]] == ["a"]
    assert [one["account_id"] for one in answer["marginal"]] == ["a"]
    assert answer["largest"][0]["quantity"] is None
    assert "errors" in answer["largest"][0]["detail"]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({}, "nothing is asked"),
        ({"largest": [{"account_id": "z", "instrument": PERP, "side": "buy"}]}, "'z'"),
        ({"largest": [{"account_id": "a", "instrument": PERP, "side": "hold"}]}, "side"),
        ({"target_headroom": 1e300}, "target_headroom"),
        ({"target": 1.0}, "target"),
    ],
)
def test_questions_that_make_no_sense_are_422(
    ready: Any, hurt: Any, rest: dict[str, Any], said: str
) -> None:
    response = ask(ready("linear-tiers"), hurt("linear-tiers"), **rest)
    assert response.status_code == 422
    assert said in response.json()["detail"]


def test_more_work_than_one_call_takes_is_422_with_the_limit(serve: Any) -> None:
    positions = [{"instrument": f"C{i}USDT", "quantity": 1.0} for i in range(51)]
    account = {"account_id": "a", "cash": 1.0, "positions": positions}
    response = ask(serve(), account, target_headroom=0.0)
    assert response.status_code == 422
    assert "2601" in response.json()["detail"]
    assert "2500" in response.json()["detail"]


def test_cost_of_an_option_is_half_the_spread_of_its_symbol(market: Any, option: str) -> None:
    view = market.live().snapshot(int(market.panel.closes[-1])).view()
    rules = load_ruleset("linear-tiers")
    want = rules.floors.liquidity.half_spread
    assert half_spreads([option, PERP], view, rules) == {option: want, PERP: want}
    assert half_spreads(["NOPEUSDT"], view, rules) == {}
