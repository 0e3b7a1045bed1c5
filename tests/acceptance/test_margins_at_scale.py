"""What positions ask does not depend on the cash beside them, however much that is."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any

CASH = (0.0, 1e6, 1e12, 1e15, 1e17, -1e15, -1e17)
MARGINS = ("initial_margin", "maintenance_margin")
EXPIRY, CALL, PUT = "BTC-28MAR25", "BTC-28MAR25-140000-C", "BTC-28MAR25-120000-P"


def book(endpoint: Endpoint) -> dict[str, list[dict[str, Any]]]:
    """Positions by name: one coin, three that offset each other, and a very small one."""
    prices = endpoint.market.closes

    def perp(symbol: str, quantity: float) -> dict[str, Any]:
        return {
            "instrument": f"{symbol}-PERP",
            "quantity": quantity,
            "entry_price": prices[symbol] * 0.97,
        }

    return {
        "one": [perp("BTCUSDT", 0.37)],
        "tiny": [perp("BTCUSDT", -3.1e-7)],
        "mixed": [perp("BTCUSDT", 0.37), perp("ETHUSDT", -8.0), perp("SOLUSDT", 31.0)],
    }


def at_each_cash(
    endpoint: Endpoint, name: str, positions: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Decisions of one book with each cash; none where the rules refuse the book itself."""
    accounts = [
        {
            "account_id": f"{name}-{index}",
            "cash": cash,
            "positions": positions,
            "collateral": [],
        }
        for index, cash in enumerate(CASH)
    ]
    found = endpoint.post("/v1/score", {"accounts": accounts}, (200, 422))
    if "decisions" not in found:
        assert len(found["errors"]) == len(CASH), "all or none: cash is no reason to refuse"
        return []
    assert found["errors"] == []
    assert len(found["decisions"]) == len(CASH)
    return list(found["decisions"])


def check(decisions: list[dict[str, Any]]) -> None:
    reference = decisions[0]
    for cash, decision in zip(CASH, decisions, strict=True):
        for margin in MARGINS:
            assert decision[margin] == pytest.approx(reference[margin], rel=1e-12, abs=0.0), cash
        assert decision["maintenance_margin"] > 0.0
        assert decision["initial_margin"] >= decision["maintenance_margin"]
        assert decision["floor"] == pytest.approx(reference["floor"], rel=1e-9)
        assert decision["cap"] == pytest.approx(reference["cap"], rel=1e-12)
        level = decision["opening_requirement"] - decision["maintenance_margin"]
        assert level >= -1e-9 * decision["maintenance_margin"]
        equity = reference["equity"] + cash
        assert decision["equity"] == pytest.approx(equity, rel=1e-12, abs=1e-6)


@pytest.fixture(scope="module")
def quoted(served: Endpoint) -> Endpoint:
    """The endpoint with open interest, which some rules ask for, and one expiry."""
    prices = served.market.closes
    interest = [
        {"instrument": f"{symbol}-PERP", "ts": served.at(), "open_interest": 1_000.0}
        for symbol in prices
    ]
    expiry = {
        "instrument": EXPIRY,
        "ts": served.at(),
        "forward": prices["BTCUSDT"] * 1.01,
        "rate": 0.03,
        "vols": {"120000": 0.55, "140000": 0.6},
    }
    assert set(served.quotes(*interest, expiry)) == {"applied"}
    return served


@pytest.mark.parametrize("name", ["one", "tiny"])
def test_margins_of_one_position_are_the_same_at_any_cash(quoted: Endpoint, name: str) -> None:
    decisions = at_each_cash(quoted, name, book(quoted)[name])
    assert decisions
    check(decisions)


def test_margins_of_several_coins_are_the_same_at_any_cash(quoted: Endpoint, preset: str) -> None:
    """Rules of one underlying an account refuse this book, whatever its cash is."""
    decisions = at_each_cash(quoted, "mixed", book(quoted)["mixed"])
    assert decisions or preset == "derive-pmrm2"
    if decisions:
        check(decisions)


def test_margins_of_options_are_the_same_at_any_cash(quoted: Endpoint, venue: Any) -> None:
    """Tier rules know no options and refuse this book, whatever its cash is."""
    positions = [
        {"instrument": CALL, "quantity": -1.5},
        {"instrument": PUT, "quantity": -0.7},
        {"instrument": "BTCUSDT-PERP", "quantity": 0.5},
    ]
    decisions = at_each_cash(quoted, "options", positions)
    assert bool(decisions) == ("tier" not in venue.rules)
    if decisions:
        check(decisions)


def test_margins_of_collateral_are_the_same_at_any_cash(quoted: Endpoint) -> None:
    """Haircuts of collateral are no reason for the cash beside it to matter either."""
    held = [{"asset": "BTC", "amount": 0.01}]
    positions = book(quoted)["one"]
    answers = quoted.score(
        *(
            {"account_id": f"c{cash:g}", "cash": cash, "positions": positions, "collateral": held}
            for cash in CASH
        )
    )
    reference = answers["c0"]
    for decision in answers.values():
        for margin in MARGINS:
            assert decision[margin] == pytest.approx(reference[margin], rel=1e-12, abs=0.0)
