"""Plausible requests of every route."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote as url_quote

from benchmarks.fuzz.generators.accounts import plausible_account
from benchmarks.fuzz.generators.draw import Draw
from benchmarks.fuzz.generators.hostile import NAMES, RAW, TIMES, hostile_time
from benchmarks.fuzz.generators.scene import UNDERLYINGS, Scene
from market.core.clock import HOUR, MINUTE, SECOND, format_time

Json = dict[str, Any]

EXPLANATION = "/explanation"
SCORE, WHAT_IF = "/v1/score", "/v1/what-if"
BARS, QUOTES = "/v1/market/bars", "/v1/market/quotes"

IDEMPOTENCY_KEY = "idempotency-key"

_MOST_STEPS = 12
_SHOWN_BYTES = 2_000
_ROUTES = (SCORE, WHAT_IF, BARS, QUOTES, "/v1/model", "/v1/ruleset", "/metrics")

_FIXED_TARGETS = (
    "/v1/model",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/docs/openapi.json",
    "/docs",
    "/",
    "/v1",
    SCORE,
    "/v1/decisions/",
    "/v1/accounts//decisions",
    "/v1/none",
)


@dataclass(frozen=True)
class Request:
    """A request as it is sent.

    Attributes
    ----------
    method, target:
        Target: path and query, as on the wire.
    document:
        The JSON value of the body; texts that begin with `RAW` are written without quotes.
    raw:
        The body itself, in the place of `document`.
    headers:
        Beside content type and length, names in lower case.
    delay:
        Nanoseconds that the wall clock advances before it.
    """

    method: str
    target: str
    document: Any = None
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: int = 0

    def __str__(self) -> str:
        delay = f"{self.delay / SECOND:g} s later, " if self.delay else ""
        headers = f" {self.headers}" if self.headers else ""
        body = self.body()[:_SHOWN_BYTES].decode("latin-1")
        return f"{delay}{self.method} {self.target}{headers} {body}"

    @property
    def route(self) -> str:
        """Method and path, without ids; requests are counted by it."""
        path = self.target.partition("?")[0]
        return f"{self.method} {path if path in _ROUTES else _family(path)}"

    def body(self) -> bytes:
        """The bytes of the body."""
        return dumps(self.document) if self.raw is None else self.raw


def _family(path: str) -> str:
    if path.startswith("/v1/decisions/") and path.endswith(EXPLANATION):
        return f"/v1/decisions/...{EXPLANATION}"
    for family in ("/v1/decisions/", "/v1/accounts/", "/health/", "/docs"):
        if path.startswith(family):
            return family + "..."
    return "other"


def dumps(document: Any) -> bytes:
    """JSON of a document, raw texts as they are."""
    text = json.dumps(document)
    marker = json.dumps(RAW)[:-1]
    while marker in text:
        before, _, rest = text.partition(marker)
        raw, _, after = rest.partition('"')
        text = before + raw + after
    return text.encode()


def score_request(draw: Draw, scene: Scene) -> Request:
    """Accounts to decide on; now and then a larger batch, a key, or a time."""
    count = draw.by_weight([(5, 1), (6, 3), (3, 8), (0.3, 60)])
    document: Json = {"accounts": [plausible_account(draw, scene) for _ in range(count)]}
    if draw.chance(0.15):
        document["as_of"] = _decision_time(draw, scene)
    if draw.chance(0.4):
        document["explain"] = True
    headers = {}
    if draw.chance(0.08):
        if scene.idempotent and draw.chance(0.6):
            key, document = draw.pick(scene.idempotent)
            if draw.chance(0.3):
                document = {**document, "accounts": [plausible_account(draw, scene)]}
        else:
            key = f"key-{scene.new_id()}"
            scene.idempotent.append((key, document))
        headers[IDEMPOTENCY_KEY] = key
    return Request("POST", SCORE, document, headers=headers)


def what_if_request(draw: Draw, scene: Scene) -> Request:
    """Accounts with changes and questions."""
    accounts = [plausible_account(draw, scene, 3) for _ in range(draw.pick((1, 1, 2, 4)))]
    document: Json = {"accounts": accounts}
    names = [account["account_id"] for account in accounts]
    if draw.chance(0.7):
        document["changes"] = [
            _change(draw, scene, draw.pick(accounts)) for _ in range(1 + draw.below(2))
        ]
    if draw.chance(0.25):
        document["target_headroom"] = draw.pick((0.0, 1.0, -1.0, 1e3, 1e6, -1e3))
    if draw.chance(0.2):
        document["marginal"] = True
    if draw.chance(0.4):
        document["largest"] = [
            {
                "account_id": draw.pick(names),
                "instrument": _instrument(draw, scene),
                "side": draw.pick(("buy", "sell")),
            }
            for _ in range(1 + draw.below(2))
        ]
    if draw.chance(0.1):
        document["as_of"] = _decision_time(draw, scene)
    if draw.chance(0.2):
        document["explain"] = True
    return Request("POST", WHAT_IF, document)


def _change(draw: Draw, scene: Scene, account: Json) -> Json:
    change: Json = {"account_id": account["account_id"]}
    if draw.chance(0.5):
        change["deposit"] = account["cash"] * draw.pick((0.1, 1.0, -0.5, -1.0))
    if draw.chance(0.7):
        legs = [
            {"instrument": leg["instrument"], "quantity_delta": -leg["quantity"] * share}
            for leg in account["positions"]
            for share in [draw.pick((0.5, 1.0, 2.0, -1.0, 1e-9))]
        ]
        if draw.chance(0.3) or not legs:
            name = _instrument(draw, scene)
            legs.append({"instrument": name, "quantity_delta": draw.normal(1.0)})
        change["positions"] = draw.sample(legs, 1 + draw.below(2))
    return change


def _instrument(draw: Draw, scene: Scene) -> str:
    if scene.options and draw.chance(0.5):
        return scene.option(draw, draw.pick(UNDERLYINGS), alive=draw.chance(0.95))
    symbol = draw.pick(scene.symbols)
    return symbol if draw.chance(0.2) else f"{symbol}-PERP"


def _decision_time(draw: Draw, scene: Scene) -> str:
    if draw.chance(0.3):
        return hostile_time(draw, scene.newest)
    return format_time(scene.newest + draw.pick((0, MINUTE, 30 * MINUTE, HOUR, 3 * HOUR)))


def bars_request(draw: Draw, scene: Scene) -> Request:
    """Mostly the bars of all steps that quotes are past, or of the next one; also steps ahead and
    behind, halves, jumps, repeats."""
    step = scene.interval.nanoseconds
    missing = min((scene.newest_update - scene.newest) // step, _MOST_STEPS)
    first = scene.newest + step * draw.by_weight(
        [(12, 0), (3, -1), (1, -2), (1, 1), (1, 3), (0.3, 30), (0.15, 24 * 6), (0.3, -40)]
    )
    symbols = list(scene.symbols)
    if draw.chance(0.15):
        symbols = draw.sample(symbols, 1 + draw.below(len(symbols)))
    bars = [
        _bar(draw, scene, symbol, first + i * step)
        for i in range(max(missing, draw.pick((1, 1, 1, 2, 5))))
        for symbol in symbols
    ]
    if draw.chance(0.05):
        bars.append(draw.pick(bars))
    return Request("POST", BARS, {"interval": scene.interval.name, "bars": bars})


def _bar(draw: Draw, scene: Scene, symbol: str, open_: int) -> Json:
    jump = draw.by_weight([(60, 0.0), (1, math.log(0.65)), (1, 0.3), (0.5, -1.5), (0.5, 2.0)])
    close = scene.marks[symbol] * math.exp(draw.normal(0.004) + jump)
    opening = close * math.exp(draw.normal(0.003))
    wick = abs(draw.normal(0.003)) + draw.by_weight([(40, 0.0), (1, 0.7)])
    return {
        "symbol": symbol,
        "ts": format_time(open_),
        "open": opening,
        "high": max(opening, close) * math.exp(wick),
        "low": min(opening, close) * math.exp(-wick),
        "close": close,
        "volume": draw.pick((0.0, 1.0, 1e3, 1e6)) * draw.between(0.5, 2.0),
    }


def opening_quotes(draw: Draw, scene: Scene) -> Request:
    """A quote of everything that accounts hold, so that it can be valued."""
    quotes: list[Json] = [{"instrument": asset, "mark": 1.0} for asset in scene.cash_assets]
    for symbol in scene.symbols:
        mark = scene.marks[symbol]
        quotes.append({"instrument": f"{symbol}-PERP", "mark": mark, "open_interest": 1e5})
    for underlying in UNDERLYINGS:
        forward = scene.marks[f"{underlying}USDT"]
        quotes += [
            {"instrument": expiry, "forward": forward, "rate": 0.03}
            | _surface(draw, scene, underlying)
            for expiry in scene.live_expiries(underlying)
        ]
    return Request("POST", QUOTES, {"quotes": quotes})


def quotes_request(draw: Draw, scene: Scene) -> Request:
    """Marks of perpetuals, coins and cash, and the surfaces of expiries."""
    quotes = [_quote(draw, scene) for _ in range(1 + draw.below(8))]
    return Request("POST", QUOTES, {"quotes": quotes})


def _quote(draw: Draw, scene: Scene) -> Json:
    kind = draw.by_weight(
        [(3, "perpetual"), (3, "expiry"), (2, "option"), (2, "spot"), (1, "cash")]
    )
    symbol = draw.pick(scene.symbols)
    mark = scene.marks[symbol] * math.exp(draw.normal(0.004))
    confidence = draw.pick((0.0, 0.3, 0.9, 1.0))
    if kind == "perpetual":
        quote = {
            "instrument": f"{symbol}-PERP",
            "mark": mark,
            "funding": draw.normal(1e-4),
            "interval_hours": draw.pick((1, 4, 8)),
            "open_interest": draw.log_between(1.0, 1e9),
            "implied_vol": draw.between(0.2, 2.0),
            "confidence": confidence,
        }
    elif kind == "spot":
        quote = {"instrument": symbol, "mark": mark, "confidence": confidence}
    elif kind == "cash":
        price = draw.pick((1.0, 0.999, 1.001, 0.97))
        quote = {"instrument": draw.pick(scene.cash_assets), "mark": price}
    else:
        underlying = draw.pick(UNDERLYINGS)
        spot = scene.marks[f"{underlying}USDT"]
        quote = {"forward": spot * math.exp(draw.normal(0.02)), "rate": draw.between(-0.02, 0.1)}
        if kind == "option":
            quote |= {"instrument": scene.option(draw, underlying), "vol": draw.between(0.2, 1.5)}
        else:
            quote |= {"instrument": draw.pick(scene.live_expiries(underlying))}
            quote |= _surface(draw, scene, underlying)
        if draw.chance(0.2):
            quote["forward_confidence"] = confidence
            quote["vol_confidence"] = draw.pick((0.0, 0.5, 1.0))
    if draw.chance(0.5):
        past = draw.by_weight(
            [(1, -HOUR), (4, 0), (4, MINUTE), (2, 10 * MINUTE), (1, HOUR), (0.2, 3 * HOUR)]
        )
        quote["ts"] = format_time(scene.newest + past)
    keys = [key for key in quote if key not in ("instrument", "ts", "interval_hours")]
    if len(keys) > 1 and draw.chance(0.4):
        for key in draw.sample(keys, draw.below(len(keys))):
            del quote[key]
            if key == "funding":
                quote.pop("interval_hours", None)
    return quote


def _surface(draw: Draw, scene: Scene, underlying: str) -> Json:
    if draw.chance(0.5):
        vols = {strike: draw.between(0.2, 1.5) for strike in scene.strikes(underlying)}
        return {"vols": vols}
    total = draw.log_between(1e-4, 0.5)
    svi = {
        "a": total * 0.3,
        "b": total * draw.between(0.0, 1.0),
        "rho": draw.between(-0.95, 0.95),
        "m": draw.normal(0.1),
        "sigma": draw.log_between(0.01, 1.0),
    }
    return {"svi": svi}


def read_request(draw: Draw, scene: Scene) -> Request:
    """A read route, with unusual ids, limits and times."""
    kind = draw.below(10)
    if kind < 3:
        known = scene.decisions and draw.chance(0.5)
        name = draw.pick(scene.decisions) if known else draw.pick(NAMES)
        part = EXPLANATION if draw.chance(0.4) else ""
        return Request("GET", f"/v1/decisions/{_in_url(draw, name)}{part}")
    if kind < 7:
        known = scene.accounts and draw.chance(0.6)
        name = draw.pick(scene.accounts) if known else draw.pick(NAMES)
        query = _query(
            draw,
            {
                "limit": ("1", "50", "500", "501", "0", "-1", "1e2", "", "abc", "9" * 30),
                "before": ("1", "0", "-1", "9223372036854775807", "9223372036854775808", "x", ""),
            },
        )
        return Request("GET", f"/v1/accounts/{_in_url(draw, name)}/decisions{query}")
    if kind == 7:
        query = _query(draw, {"as_of": (*TIMES, hostile_time(draw, scene.newest))})
        return Request("GET", f"/v1/ruleset{query}")
    method = draw.pick(("GET", "GET", "HEAD", "OPTIONS", "DELETE", "PUT", "POST"))
    return Request(method, draw.pick(_FIXED_TARGETS))


def _in_url(draw: Draw, name: str) -> str:
    encoded = name.encode("utf-8", "surrogatepass")[:300]
    return url_quote(encoded, safe="" if draw.chance(0.8) else "/%?#")


def _query(draw: Draw, values: dict[str, tuple[str, ...]]) -> str:
    chosen = []
    for key, options in values.items():
        for _ in range(draw.pick((0, 0, 1, 1, 1, 2))):
            option = draw.pick(options).encode("utf-8", "surrogatepass")
            chosen.append(f"{key}={url_quote(option)}")
    if draw.chance(0.05):
        chosen.append("unknown=1")
    return "?" + "&".join(chosen) if chosen else ""
