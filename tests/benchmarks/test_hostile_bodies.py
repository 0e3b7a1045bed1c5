"""Bodies that once took the endpoint down, by hazard."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from benchmarks.fuzz.endpoint import Mode, World
from benchmarks.fuzz.generators.requests import BARS, QUOTES, SCORE, WHAT_IF, Request
from benchmarks.fuzz.session import Session

SOUND = {
    "account_id": "sound",
    "cash": 20_000.0,
    "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1.0}],
}
BUY = {"account_id": "x", "instrument": "BTCUSDT-PERP", "side": "buy"}


def holding(quantity: float, **rest: Any) -> dict[str, Any]:
    leg = {"instrument": "BTCUSDT-PERP", "quantity": quantity}
    return {"account_id": "x", "cash": 1_000.0, "positions": [leg], **rest}


def cash(amount: float, **rest: Any) -> dict[str, Any]:
    return {"account_id": "x", "cash": amount, "positions": [], **rest}


def score(account: dict[str, Any], **rest: Any) -> Request:
    """A batch with a neighbour, which must have its decision whatever is wrong with the other."""
    return Request("POST", SCORE, {"accounts": [account, SOUND], **rest})


def what_if(account: dict[str, Any], **asked: Any) -> Request:
    return Request("POST", WHAT_IF, {"accounts": [account], **asked})


def bar(ts: str, price: float = 100_000.0, symbol: str = "BTCUSDT") -> Request:
    one = {"symbol": symbol, "ts": ts, "volume": 1.0}
    one |= dict.fromkeys(("open", "high", "low", "close"), price)
    return Request("POST", BARS, {"interval": "1h", "bars": [one]})


def quote(instrument: str, **figures: Any) -> Request:
    return Request("POST", QUOTES, {"quotes": [{"instrument": instrument, **figures}]})


HAZARDS: dict[str, Request] = {
    "denormal cash, largest size": what_if(cash(1e-312), largest=[BUY]),
    "least float as cash, largest size": what_if(cash(5e-324), largest=[BUY]),
    "denormal position, largest size": what_if(holding(1e-318) | {"cash": 1e-313}, largest=[BUY]),
    "requirements around the largest float": Request(
        "POST",
        SCORE,
        {
            "accounts": [
                *(holding(step * 1e302) | {"account_id": f"{step}"} for step in range(1, 25)),
                SOUND,
            ]
        },
    ),
    "what-if beyond floats": what_if(
        holding(1.65e303, cash=1e308), target_headroom=0.0, marginal=True, largest=[BUY]
    ),
    "figures of 1e308": score(cash(1e308)),
    "add-on beyond floats": score(
        holding(1.0, previous_add_on={"amount": 1.7e308, "as_of": "2025-01-20T00:00:00Z"})
    ),
    "denormal account": score(holding(1e-320, cash=1e-315)),
    "decision at year 1": score(cash(1.0), as_of="0001-01-01T00:00:00Z"),
    "decision at year 1 east of Greenwich": score(cash(1.0), as_of="0001-01-01T00:00:00+23:59"),
    "decision in 1969": score(cash(1.0), as_of="1969-12-31T23:59:59Z"),
    "decision at year 9999": score(cash(1.0), as_of="9999-12-31T23:59:59Z"),
    "decision at year 9999 west of Greenwich": score(cash(1.0), as_of="9999-12-31T23:59:59-23:59"),
    "what-if at year 1": what_if(cash(1.0), marginal=True, as_of="0001-01-01T00:00:00Z"),
    "add-on of year 1": score(
        holding(1.0, previous_add_on={"amount": 1.0, "as_of": "0001-01-01T00:00:00+10:00"})
    ),
    "rules of year 1": Request("GET", "/v1/ruleset?as_of=0001-01-01T00:00:00%2B23:59"),
    "rules of year 9999": Request("GET", "/v1/ruleset?as_of=9999-12-31T23:59:59-23:59"),
    "bar of year 9999": bar("9999-12-31T23:00:00Z"),
    "bar of year 1": bar("0001-01-01T00:00:00Z"),
    "bar of year 1 east of Greenwich": bar("0001-01-01T00:00:00+23:59"),
    "quote of year 9999": quote("BTCUSDT-PERP", mark=1e5, ts="9999-12-31T23:59:59Z"),
    "quote of year 1": quote("BTCUSDT-PERP", mark=1e5, ts="0001-01-01T00:00:00Z"),
    "mark of a quadrillionth": quote("BTCUSDT-PERP", mark=1e-15),
    "spot mark of a quadrillionth": quote("ETHUSDT", mark=1e-15),
    "cash mark of a quadrillionth": quote("USDT", mark=1e-15),
    "mark of a trillion": quote("BTCUSDT-PERP", mark=1e12),
    "wings without a strike of 25 delta": Request(
        "POST",
        QUOTES,
        {
            "quotes": [
                {
                    "instrument": expiry,
                    "forward": 75_000.0,
                    "svi": {"a": 0.0, "b": b, "rho": 0.0, "m": 0.09, "sigma": 1.0},
                }
                for expiry, b in (("BTC-28MAR25", 0.01), ("BTC-27JUN25", 0.02), ("BTC-26SEP25", 2))
            ]
        },
    ),
}


@pytest.mark.parametrize("clock", ["market", "wall"])
@pytest.mark.parametrize("preset", ["linear-tiers", "binance-usdm", "dydx-v4", "derive-pmrm2"])
def test_hostile_bodies_cause_no_fault(
    tmp_path: Path, preset: str, clock: Literal["market", "wall"]
) -> None:
    world = World(tmp_path, preset, limit_seconds=60.0)
    found: dict[str, list[str]] = {}
    with world.endpoint(Mode(clock=clock)) as endpoint:
        session = Session(world, endpoint, world.scene(endpoint, 0))
        for hazard, request in HAZARDS.items():
            _, faults = session.step(request, neighbours=clock == "market")
            found[hazard] = [*found.get(hazard, []), *faults]
            if session.is_over:
                break
        else:
            found["ledger, replay and restart"] = session.finish()
    assert {hazard: faults for hazard, faults in found.items() if faults} == {}
