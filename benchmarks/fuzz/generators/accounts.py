"""Plausible accounts: levered books near their margin, of every kind that the rules take."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.fuzz.generators.draw import Draw
from benchmarks.fuzz.generators.scene import UNDERLYINGS, Scene
from market.core.clock import HOUR, format_time

Json = dict[str, Any]


def plausible_account(draw: Draw, scene: Scene, most_legs: int = 4) -> Json:
    """An account as it could stand; leverage log-normal with median 5, equity 10 to 10 million."""
    reuse = scene.accounts and draw.chance(0.25)
    account: Json = {
        "account_id": draw.pick(scene.accounts) if reuse else scene.new_id(),
        "cash": 0.0,
        "positions": [],
    }
    gross = draw.log_between(1e2, 1e8)
    legs = 0 if draw.chance(0.06) else 1 + draw.below(most_legs)
    account["positions"] = _positions(draw, scene, gross, legs)
    leverage = min(max(5.0 * math.exp(draw.normal(0.8)), 0.5), 60.0)
    account["cash"] = gross / leverage
    if draw.chance(0.05):
        account["cash"] = -account["cash"]
    if draw.chance(0.4):
        account["collateral"] = _collateral(draw, scene, gross / leverage)
    if draw.chance(0.25):
        hours = draw.pick((0, 0.5, 1, 3, 24, 1_000))
        account["previous_add_on"] = {
            "amount": gross * draw.pick((0.0, 1e-4, 0.01, 0.03, 0.1, 1.0)),
            "as_of": format_time(scene.newest - int(hours * HOUR)),
        }
    if draw.chance(0.1):
        account["history"] = {"breaches": draw.below(5), "note": "\u00e9", "trend": [1, -0.5, None]}
    return account


def _positions(draw: Draw, scene: Scene, gross: float, legs: int) -> list[Json]:
    names: list[str] = []
    if scene.one_underlying and draw.chance(0.95):
        coins = [draw.pick(UNDERLYINGS)]
    else:
        coins = [symbol.removesuffix("USDT") for symbol in scene.symbols]
    for _ in range(legs):
        coin = draw.pick(coins)
        if scene.options and coin in UNDERLYINGS and draw.chance(0.55):
            names.append(scene.option(draw, coin, alive=draw.chance(0.97)))
        else:
            names.append(f"{coin}USDT" if draw.chance(0.15) else f"{coin}USDT-PERP")
    positions = []
    for name in dict.fromkeys(names):
        coin = name.split("-")[0].removesuffix("USDT")
        mark = scene.marks[f"{coin}USDT"]
        side = 1.0 if draw.chance(0.6) else -1.0
        leg: Json = {
            "instrument": name,
            "quantity": side * gross * draw.log_between(0.05, 1.0) / mark,
        }
        if draw.chance(0.1):
            leg["quantity"] = float(round(leg["quantity"]))
        if draw.chance(0.5):
            leg["entry_price"] = mark * math.exp(draw.normal(0.05))
        positions.append(leg)
    return positions


def _collateral(draw: Draw, scene: Scene, equity: float) -> list[Json]:
    coins = tuple(symbol.removesuffix("USDT") for symbol in scene.symbols)
    assets = draw.sample((*scene.cash_assets, *scene.haircut_assets, *coins), 1 + draw.below(3))
    balances = []
    for asset in dict.fromkeys(assets):
        price = scene.marks.get(f"{asset}USDT", 1.0)
        share = draw.pick((0.0, 0.01, 0.2, 1.0, -0.05, -0.3))
        balances.append({"asset": asset, "amount": equity * share / price})
    return balances


def control_account(scene: Scene) -> Json:
    """A sound account that must be decided on whatever was posted before; it is long only."""
    mark, coin = scene.marks["BTCUSDT"], scene.marks["ETHUSDT"]
    return {
        "account_id": "control",
        "cash": 10.0 * mark,
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1, "entry_price": mark}],
        "collateral": [{"asset": "ETH", "amount": 0.1 * mark / coin}],
    }


def control_value(account: Json, equity: float) -> float:
    """What the control account's coins are worth: a sum of prices with weights above 0."""
    entered = sum(leg["quantity"] * leg["entry_price"] for leg in account["positions"])
    return float(equity - account["cash"] + entered)
