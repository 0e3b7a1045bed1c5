"""Mutations: hostile values put into plausible bodies."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

from benchmarks.fuzz.generators.draw import Draw
from benchmarks.fuzz.generators.hostile import (
    OTHER_TYPES,
    RAW,
    hostile_name,
    hostile_number,
    hostile_scale,
    hostile_time,
)
from benchmarks.fuzz.generators.requests import IDEMPOTENCY_KEY, Request
from benchmarks.fuzz.generators.scene import Scene

Place = tuple[Any, Any]
"""A container and the key or index of a value in it."""

_NAMES = ("account_id", "instrument", "asset", "symbol", "side", "interval")
_TIMES = ("as_of", "ts")
_SIZES = ("cash", "quantity", "amount", "deposit", "quantity_delta", "volume", "open_interest")

_PRICES = ("open", "high", "low", "close", "mark", "forward")
_PRICE_FACTORS = (1e-20, 1e-6, 0.01, 0.15, 0.21, 0.5, 0.65, 1.3, 2.0, 4.9, 5.1, 100.0, 1e6, 2e8)
_PRICE_SHARE = 0.3

_KINDS = (
    (6.0, "number"),
    (2.0, "scale"),
    (1.2, "name"),
    (1.0, "time"),
    (0.5, "repeat"),
    (0.5, "same name"),
    (0.35, "type"),
    (0.3, "zero all"),
    (0.2, "drop"),
    (0.15, "unknown"),
    (0.1, "nest"),
)
"""Kinds of mutation by weight: those that the decoder refuses are rare."""

_GARBAGE = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'""',
    b"\x00",
    b"\xff\xfe",
    b"nan",
    b"{" * 50_000,
    b'{"accounts":[]}',
    b'{"accounts":[{}]}',
    b'{"a":1,"a":2}',
    b'{"accounts":[' + b",".join([b'{"account_id":"a","cash":1,"positions":[]}'] * 20_001) + b"]}",
    b'{"accounts":[' + b" " * 2**24 + b"]}",
)


def mutate(draw: Draw, scene: Scene, request: Request) -> Request:
    """The request with some hostile values: none in a third of all, mostly one or two."""
    count = draw.by_weight([(3.5, 0), (4, 1), (1.5, 2), (1, 4)])
    if request.document is None or count == 0:
        return request
    document = copy.deepcopy(request.document)
    for _ in range(count):
        document = _mutate_once(draw, scene, document)
    headers = dict(request.headers)
    if IDEMPOTENCY_KEY in headers and draw.chance(0.2):
        headers[IDEMPOTENCY_KEY] = draw.pick(("", " ", "a" * 201, "\u00e9", "a\tb", "'", "a" * 200))
    changed = dataclasses.replace(request, document=document, headers=headers)
    if draw.chance(0.04):
        return dataclasses.replace(changed, raw=_broken(draw, changed.body()))
    return changed


def places(value: Any) -> Iterator[Place]:
    """Every place in a JSON value, outer ones first."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    for key in keys:
        yield value, key
        yield from places(value[key])


def _mutate_once(draw: Draw, scene: Scene, document: Any) -> Any:
    kind = draw.by_weight(_KINDS)
    if isinstance(document, dict) and ("bars" in document or "quotes" in document):
        kind = "price" if draw.chance(_PRICE_SHARE) else kind
    targets = list(places(document))
    if kind == "number":
        numbers = [p for p in targets if _is_number(p)]
        if numbers and draw.chance(0.5):  # the key first: cash is one of many numbers
            key = draw.pick(sorted({str(p[1]) for p in numbers}))
            numbers = [p for p in numbers if str(p[1]) == key]
        _replace(draw, numbers, lambda v: hostile_number(draw, v))
    elif kind == "price":
        _reprice(draw, document)
    elif kind == "scale":
        _scale(draw, document)
    elif kind == "name":
        _replace(draw, [p for p in targets if p[1] in _NAMES], lambda _: hostile_name(draw))
    elif kind == "time":
        _replace(
            draw, [p for p in targets if p[1] in _TIMES], lambda _: hostile_time(draw, scene.newest)
        )
    elif kind == "type":
        _replace(draw, targets, lambda _: copy.deepcopy(draw.pick(OTHER_TYPES)))
    elif kind == "same name":
        names = [p for p in targets if p[1] in _NAMES]
        if names:
            container, key = draw.pick(names)
            _replace(draw, [p for p in names if p[1] == key], lambda _: container[key])
    elif kind == "repeat":
        lists = [c[k] for c, k in targets if isinstance(c[k], list) and c[k]]
        if lists:
            chosen = draw.pick(lists)
            chosen.extend([copy.deepcopy(draw.pick(chosen)) for _ in range(draw.pick((1, 1, 2)))])
    elif kind == "drop" and targets:
        container, key = draw.pick(targets)
        del container[key]
    elif kind == "unknown":
        dicts = [c for c, _ in targets if isinstance(c, dict)]
        if dicts:
            draw.pick(dicts)[draw.pick(("extra", "Cash", "", "__class__"))] = 1.0
    elif kind == "nest":
        depth = draw.pick((3, 200, 900, 1_100, 100_000))
        _replace(draw, targets, lambda _: RAW + "[" * depth + "]" * depth)
    elif kind == "zero all":
        key = draw.pick(("quantity", "amount", "volume", "vol", "mark", "cash"))
        number = draw.pick((0.0, -0.0, 5e-324, 1e-312, 1e-20, 1e300))
        for container, name in targets:
            if name == key:
                container[name] = number
    return document


def _scale(draw: Draw, document: Any) -> None:
    """Multiply all sizes of one account, or of one part of a body, by one factor."""
    parts = document
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list) and value]
        parts = draw.pick(lists) if lists else []
    if not isinstance(parts, list) or not parts:
        return
    factor = hostile_scale(draw)
    for container, key in list(places([draw.pick(parts)])):
        if isinstance(container[key], float) and key in _SIZES:
            container[key] *= factor


def _reprice(draw: Draw, document: Any) -> None:
    """Multiply the prices of one quote or bar by one factor: a possible bar stays possible."""
    parts = document.get("bars", document.get("quotes"))
    if not isinstance(parts, list) or not parts:
        return
    part, factor = draw.pick(parts), draw.pick(_PRICE_FACTORS)
    for container, key in [p for p in places(part) if p[1] in _PRICES]:
        if isinstance(container[key], float):
            container[key] *= factor


def _is_number(place: Place) -> bool:
    value = place[0][place[1]]
    return isinstance(value, int | float) and not isinstance(value, bool)


def _replace(draw: Draw, chosen: list[Place], new: Any) -> None:
    if chosen:
        container, key = draw.pick(chosen)
        container[key] = new(container[key])


def _broken(draw: Draw, body: bytes) -> bytes:
    """Bytes that are no JSON, or hardly."""
    kind = draw.below(8)
    place = draw.below(max(1, len(body)))
    if kind == 0:
        return body[:place]
    if kind == 1:
        return body[:place] + bytes([draw.below(256)]) + body[place + 1 :]
    if kind == 2:
        return b"\xef\xbb\xbf" + body
    if kind == 3:
        return body.decode().encode("utf-16")
    if kind == 4:
        return b"[" * 100_000
    if kind == 5:
        return body + body
    if kind == 6:
        return b""
    return b'{"accounts":' * 5_000 + body + b"}" * 5_000


def garbage(draw: Draw, target: str) -> Request:
    """A body that has nothing of a request."""
    return Request("POST", target, raw=draw.pick(_GARBAGE))
