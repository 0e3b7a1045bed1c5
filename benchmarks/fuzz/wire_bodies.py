"""Sound bodies of the posts, which `benchmarks.fuzz.wire_requests` makes odd."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

ODD_TEXTS = (
    *("", " ", "\u0000", "\u202e\u0041", "e\u0301", "\U0001f4b8", "a" * 5_000, "../../etc", "%00"),
    *("\ufeff", "BTCUSDT", "null", "1", "\u0130", "\ud800", "'; --", "2025-01-01T00:00:00Z"),
)


def _score(draw: random.Random) -> dict[str, Any]:
    names = [f"wire-{draw.randrange(200)}", f"\u00e4-{draw.randrange(5)}", draw.choice(ODD_TEXTS)]
    return {"accounts": [_account(draw, name) for name in names[: draw.randrange(1, 4)]]}


def _account(draw: random.Random, name: str) -> dict[str, Any]:
    legs = draw.sample(("BTCUSDT-PERP", "ETHUSDT-PERP", "SOLUSDT-PERP", "NOPE-PERP"), 2)
    return {
        "account_id": name,
        "cash": draw.choice((5_000.0, 0.0, -100.0, 1e12, draw.uniform(0, 1e4))),
        "positions": [{"instrument": leg, "quantity": draw.gauss(0.0, 0.5)} for leg in legs],
        "collateral": [{"asset": draw.choice(("BTC", "USDT", "ETH")), "amount": draw.random()}],
    }


def _what_if(draw: random.Random) -> dict[str, Any]:
    body = _score(draw)
    name = body["accounts"][0]["account_id"]
    change = {"account_id": name, "deposit": draw.choice((0.0, 100.0, -1e9, 1e300))}
    return {**body, "changes": [change]}


def _bars(draw: random.Random) -> dict[str, Any]:
    """Far in the past: none of them moves the market."""
    price = draw.lognormvariate(5.0, 5.0)
    bar = {"symbol": "BTCUSDT", "ts": "2020-01-01T00:00:00Z", "volume": 1.0}
    bar |= dict.fromkeys(("open", "high", "low", "close"), price)
    return {"interval": "1h", "bars": [bar] * draw.randrange(1, 3)}


def _quotes(draw: random.Random) -> dict[str, Any]:
    quote_ = {"instrument": draw.choice(("BTCUSDT-PERP", "BTCUSDT", "USDT", "X")), "mark": 1e-9}
    return {"quotes": [{**quote_, "ts": "2020-01-01T00:00:00Z"}]}


def _updates(draw: random.Random) -> dict[str, Any]:
    account = _account(draw, f"wire-{draw.randrange(20)}")
    name = account.pop("account_id")
    amount = draw.choice((1.0, 1e-320, 1e300, draw.random()))
    deltas = [
        {"kind": "fill", "instrument": "BTCUSDT-PERP", "quantity": draw.gauss(0, 1), "price": 1e5},
        {"kind": draw.choice(("deposit", "withdrawal")), "asset": "BTC", "amount": amount},
        {"kind": "transfer", "asset": "USD", "amount": -amount},
        {"kind": "funding", "amount": amount},
    ]
    change = draw.choice(({"snapshot": account}, {"deltas": draw.sample(deltas, 2)}))
    return {"updates": [{"account_id": name, "sequence": draw.randrange(1, 9), **change}]}


def _dispute(draw: random.Random) -> dict[str, Any]:
    reason = draw.choice(("position", "price", "haircut", "model", "duplicate"))
    return {"reason": reason, "amount": draw.choice((1.0, 1e-300, 1e300, 0.0)), "note": "wire"}


def _acknowledge_call(draw: random.Random) -> dict[str, Any]:
    return {"reference": draw.choice(ODD_TEXTS)}


def _resolve(draw: random.Random) -> dict[str, Any]:
    return {"outcome": draw.choice(("accepted", "rejected")), "note": draw.choice(ODD_TEXTS)}


def _acknowledge(draw: random.Random) -> dict[str, Any]:
    status = draw.choice(("acknowledged", "filled", "partly_filled", "rejected"))
    answer: dict[str, Any] = {
        "status": status,
        "reference": draw.choice(ODD_TEXTS),
        "reason": "wire",
    }
    if draw.random() < 0.7:
        answer |= {"quantity": draw.choice((0.1, -0.1, 1e300, 5e-324)), "price": 1e4}
    return answer


def _override(draw: random.Random) -> dict[str, Any]:
    wanted: dict[str, Any] = {"reason": "wire"}
    if draw.random() < 0.7:
        add_on = draw.choice((0.0, 1e4, 1e300, draw.random()))
        wanted |= {"account_id": f"wire-{draw.randrange(20)}", "add_on": add_on}
    if draw.random() < 0.4:
        wanted |= {"call_id": draw.choice(ODD_TEXTS), "deadline": draw.choice((_SOON, *_TIMES))}
    return wanted | {"expires": _SOON if draw.random() < 0.6 else draw.choice(_TIMES)}


def _note(draw: random.Random) -> dict[str, Any]:
    return {"note": draw.choice(("wire", *ODD_TEXTS))}


def _mode(draw: random.Random) -> dict[str, Any]:
    modes = draw.sample(("rules_only", "no_calls", "no_instructions"), draw.randrange(1, 4))
    mode = modes if draw.random() < 0.2 else "normal"
    return {"mode": mode, "reason": "wire", "symbol": draw.choice((None, "BTCUSDT", "NOPE"))}


def _skip(draw: random.Random) -> dict[str, Any]:
    return {"sink": draw.choice(("command", "command", *ODD_TEXTS[:4])), "reason": "wire"}


_SOON = "2025-01-13T20:00:00Z"
"""Hours after the market of `benchmarks.reliability.workspace` ends."""

_TIMES = (
    *("2025-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01"),
    *("2262-04-11T23:47:16Z", "2262-04-12T00:00:00Z", "2025-01-01T00:00:00.0000000001Z"),
    *("1677-09-21T00:12:43Z", "2024-02-30T00:00:00Z", "2025-01-01T00:00:00+99:99", "now", ""),
)
"""Some are beyond what nanoseconds in 64 bits hold."""

BODIES: Mapping[str, Callable[[random.Random], dict[str, Any]]] = {
    "/v1/score": _score,
    "/v1/what-if": _what_if,
    "/v1/market/bars": _bars,
    "/v1/market/quotes": _quotes,
    "/v1/accounts/updates": _updates,
    "/v1/calls/{call}/ack": _acknowledge_call,
    "/v1/calls/{call}/dispute": _dispute,
    "/v1/calls/{call}/resolve": _resolve,
    "/v1/instructions/{instruction}/ack": _acknowledge,
    "/v1/overrides": _override,
    "/v1/overrides/{command}/approve": _note,
    "/v1/overrides/{command}/reject": _note,
    "/v1/admin/mode": _mode,
    "/v1/admin/deliveries/{event}/skip": _skip,
}
"""By path; names in braces stand for ids."""
