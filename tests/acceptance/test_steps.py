"""Steps of the market: who may be early, late or alone without a loss to the others.

A step of all symbols commits when a quorum of them is there; on the market's clock nothing but a
quorum or a request that says ``final`` commits it. What comes later is a correction on record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Start: TypeAlias = Callable[..., Endpoint]

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
HOURS = 6
FIGURES = (
    "as_of",
    "equity",
    "initial_margin",
    "maintenance_margin",
    "headroom",
    "probability",
    "floor",
    "model_add_on",
    "cap",
    "opening_requirement",
    "marks",
)
"""What depends on account and market alone; levels in force also depend on earlier decisions."""


def account(prices: Mapping[str, float], name: str = "mixed") -> dict[str, Any]:
    """A position in each coin, entered at the last closes of the files."""
    held = {"BTCUSDT": 0.5, "ETHUSDT": -8.0, "SOLUSDT": 150.0}
    return {
        "account_id": name,
        "cash": 0.4 * prices["BTCUSDT"],
        "positions": [
            {
                "instrument": f"{symbol}-PERP",
                "quantity": held[symbol],
                "entry_price": prices[symbol],
            }
            for symbol in SYMBOLS
        ],
        "collateral": [],
    }


def moving_bar(endpoint: Endpoint, symbol: str, hour: int) -> dict[str, Any]:
    """Bars that move by up to a few per cent, each symbol in its own way."""
    price = endpoint.market.closes[symbol]
    step = 0.01 * (1 + SYMBOLS.index(symbol))
    opened = price * (1.0 + step * ((hour * 7) % 5 - 2))
    close = price * (1.0 + step * (((hour + 1) * 7) % 5 - 2))
    bar: dict[str, Any] = endpoint.bar(symbol, hour, close, opened=opened)
    return bar


def figures(decision: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decision[name] for name in FIGURES}


@pytest.fixture(scope="module")
def by_hour(start: Start) -> Endpoint:
    """An endpoint that was posted six hours of all symbols, hour by hour."""
    endpoint = start()
    for hour in range(HOURS):
        bars = [moving_bar(endpoint, symbol, hour) for symbol in SYMBOLS]
        assert endpoint.bars(*bars) == ["applied"] * 3
    return endpoint


@pytest.fixture(scope="module")
def hourly_figures(by_hour: Endpoint) -> dict[str, Any]:
    return figures(by_hour.decision(account(by_hour.market.closes)))


def test_recovery_symbol_by_symbol_equals_recovery_hour_by_hour(
    start: Start, hourly_figures: Mapping[str, Any]
) -> None:
    """BTC's six hours, then ETH's, then SOL's: none is late, and the decision is the same."""
    endpoint = start()
    for symbol in SYMBOLS:
        bars = [moving_bar(endpoint, symbol, hour) for hour in range(HOURS)]
        assert endpoint.bars(*bars) == ["applied"] * HOURS
    decision = endpoint.decision(account(endpoint.market.closes))
    assert figures(decision) == hourly_figures


def test_recovery_in_the_reverse_order_of_symbols_is_the_same(
    start: Start, hourly_figures: Mapping[str, Any]
) -> None:
    endpoint = start()
    for symbol in reversed(SYMBOLS):
        for hour in range(HOURS):
            assert endpoint.bars(moving_bar(endpoint, symbol, hour)) == ["applied"]
    decision = endpoint.decision(account(endpoint.market.closes))
    assert figures(decision) == hourly_figures


def test_a_live_market_decides_as_one_that_was_started_on_the_same_bars(
    start: Start, hourly_figures: Mapping[str, Any], longer_files: Path
) -> None:
    endpoint = start(bars=longer_files)
    decision = endpoint.decision(account(endpoint.market.closes))
    assert figures(decision) == hourly_figures


@pytest.fixture(scope="module")
def longer_files(
    by_hour: Endpoint,
    extended_files: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The files as they would be with the six hours."""
    posted = [moving_bar(by_hour, symbol, hour) for symbol in SYMBOLS for hour in range(HOURS)]
    return extended_files(tmp_path_factory.mktemp("bars"), posted)


def test_scoring_files_of_the_same_bars_gives_the_same_decision(
    start: Start,
    hourly_figures: Mapping[str, Any],
    longer_files: Path,
    account_files: Callable[..., Path],
    tmp_path: Path,
) -> None:
    endpoint = start(bars=longer_files)
    held = account(endpoint.market.closes)
    folder = account_files(tmp_path / "accounts", endpoint.at(), [held])
    row = endpoint.score_files(folder, endpoint.at(hours=HOURS))["mixed"]
    for name in ("initial_margin", "maintenance_margin", "floor", "cap", "model_add_on"):
        assert row[name] == hourly_figures[name], name
    for hours, probability in hourly_figures["probability"].items():
        assert row[f"p_{hours}"] == probability


def test_one_symbol_that_is_days_ahead_leaves_the_others_in_order(start: Start) -> None:
    endpoint = start()
    endpoint.bars(moving_bar(endpoint, "BTCUSDT", 6 * 24))
    held = account(endpoint.market.closes)
    before = endpoint.decision(held)
    for mark in before["marks"]:
        assert not mark.get("stale", False), mark
    for hour in range(3):
        bars = [moving_bar(endpoint, symbol, hour) for symbol in SYMBOLS]
        assert endpoint.bars(*bars) == ["applied"] * 3
    after = endpoint.decision(held)
    assert after["as_of"] == endpoint.at(hours=3)
    prices = {mark["instrument"]: mark["price"] for mark in after["marks"]}
    assert prices == {
        f"{symbol}-PERP": moving_bar(endpoint, symbol, 2)["close"] for symbol in SYMBOLS
    }
    for mark in after["marks"]:
        assert not mark.get("stale", False), mark
    stale = [text for text in endpoint.get("/health/ready")["reasons"] if "stale" in text]
    assert not [text for text in stale if "ETHUSDT" in text or "SOLUSDT" in text]


def test_days_of_one_symbol_ahead_are_survived_by_a_restart(start: Start) -> None:
    """What was posted is replayed from the ledger; it must not bring the poison back."""
    endpoint = start()
    days = [moving_bar(endpoint, "BTCUSDT", 24 * day) for day in range(1, 7)]
    endpoint.bars(*days)
    bars = [moving_bar(endpoint, symbol, 0) for symbol in SYMBOLS]
    assert endpoint.bars(*bars) == ["applied"] * 3
    held = account(endpoint.market.closes)
    running = endpoint.decision(held)
    again = start(after=endpoint)
    assert figures(again.decision(held)) == figures(running)
    more = [moving_bar(endpoint, symbol, 1) for symbol in ("ETHUSDT", "SOLUSDT")]
    assert again.bars(*more) == ["applied"] * 2


def test_a_step_below_the_quorum_waits_until_it_is_final(start: Start) -> None:
    endpoint = start()
    held = account(endpoint.market.closes)
    assert endpoint.bars(moving_bar(endpoint, "BTCUSDT", 0)) == ["applied"]
    again = endpoint.bars(moving_bar(endpoint, "BTCUSDT", 0), final=True)
    assert again == ["duplicate"]
    decision = endpoint.decision(held)
    assert decision["as_of"] == endpoint.at(hours=1)
    ages = {mark["instrument"]: mark["age_seconds"] for mark in decision["marks"]}
    assert ages == {"BTCUSDT-PERP": 0.0, "ETHUSDT-PERP": 3600.0, "SOLUSDT-PERP": 3600.0}


def test_a_step_that_was_closed_without_a_symbol_equals_files_without_that_bar(
    start: Start, extended_files: Callable[..., Path], tmp_path: Path
) -> None:
    """Live equals batch on the symbols that each step had."""
    live = start()
    posted = []
    for hour in range(3):
        missing = "SOLUSDT" if hour == 1 else None
        bars = [moving_bar(live, symbol, hour) for symbol in SYMBOLS if symbol != missing]
        assert live.bars(*bars, final=True) == ["applied"] * len(bars)
        posted += bars
    batch = start(bars=extended_files(tmp_path, posted))
    held = account(live.market.closes)
    assert figures(live.decision(held)) == figures(batch.decision(held))


@pytest.fixture
def guarded(start: Start) -> tuple[Endpoint, dict[str, str], dict[str, str]]:
    """An endpoint with keys: headers of a feed and of an administrator."""
    endpoint = start(auth="keys")
    feed = endpoint.key("market", "score", "read")
    admin = endpoint.key("market", "score", "read", "admin")
    endpoint.headers = feed
    return endpoint, feed, admin


def test_a_late_bar_of_a_feed_is_late_and_of_an_administrator_a_correction(
    guarded: tuple[Endpoint, dict[str, str], dict[str, str]],
) -> None:
    endpoint, _, admin = guarded
    for hour in range(3):
        bars = [moving_bar(endpoint, symbol, hour) for symbol in SYMBOLS]
        assert endpoint.bars(*bars) == ["applied"] * 3
    held = account(endpoint.market.closes)
    earlier = endpoint.decision(held)
    other = {**moving_bar(endpoint, "ETHUSDT", 0), "volume": 900.0}
    body = {"interval": "1h", "bars": [other]}
    (plain,) = endpoint.post("/v1/market/bars", body)["results"]
    assert plain["status"] == "late"
    correction = body | {"correct": True}
    endpoint.post("/v1/market/bars", correction, 403)
    (corrected,) = endpoint.post("/v1/market/bars", correction, headers=admin)["results"]
    assert corrected["status"] == "corrected"
    kept = endpoint.get(f"/v1/decisions/{earlier['decision_id']}")
    assert figures(kept) == figures(earlier)
    report = endpoint.folder / "replay.json"
    replayed = endpoint.cli("ledger", "replay", earlier["decision_id"], "--json", report)
    assert replayed.code == 0, replayed.err
    assert json.loads(report.read_text())["equal"] is True


def test_a_correction_counts_from_the_next_step_as_if_it_had_been_there(
    guarded: tuple[Endpoint, dict[str, str], dict[str, str]], start: Start
) -> None:
    endpoint, _, admin = guarded
    right = start()
    held = account(endpoint.market.closes)
    for hour in range(3):
        bars = [moving_bar(endpoint, symbol, hour) for symbol in SYMBOLS]
        assert endpoint.bars(*bars) == ["applied"] * 3
        bars[1] |= {"volume": 900.0} if hour == 0 else {}
        assert right.bars(*bars) == ["applied"] * 3
    other = {**moving_bar(endpoint, "ETHUSDT", 0), "volume": 900.0}
    body = {"interval": "1h", "bars": [other], "correct": True}
    (result,) = endpoint.post("/v1/market/bars", body, headers=admin)["results"]
    assert result["status"] == "corrected"
    for each in (endpoint, right):
        bars = [moving_bar(each, symbol, 3) for symbol in SYMBOLS]
        assert each.bars(*bars) == ["applied"] * 3
    assert figures(endpoint.decision(held)) == figures(right.decision(held))
