"""Odd requests as bytes: bodies that JSON or HTTP hardly allows, on every route."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from benchmarks.fuzz.wire_bodies import BODIES, ODD_TEXTS

POSTS = tuple(BODIES)
_UNKEYED, _COMMANDS = POSTS[1:5], POSTS[5:]
"""Posts without an Idempotency-Key, and commands to enforcement."""

_CHEAP = (
    "/v1/decisions/{decision}",
    "/v1/decisions/{decision}/explanation",
    "/v1/accounts?sort={text}",
    "/v1/accounts?state=called&limit=2&cursor={cursor}",
    "/v1/accounts/{account}",
    "/v1/accounts/{account}/decisions",
    "/v1/accounts/{account}/decisions?limit=2",
    "/v1/calls?limit=3&cursor={cursor}",
    "/v1/calls?account={account}&open=true",
    "/v1/calls?state=called&type={text}&open={text}",
    "/v1/calls/{call}",
    "/v1/commands/{command}",
    "/v1/instructions?limit=3&cursor={cursor}",
    "/v1/instructions?call_id={call}&state={text}",
    "/v1/instructions/{instruction}",
    "/v1/overrides",
    "/v1/admin/mode",
    "/v1/admin/deliveries?limit=3&cursor={cursor}",
    "/v1/admin/deliveries?status={text}",
    "/v1/model",
    "/v1/ruleset",
    "/v1/ruleset?as_of={text}",
    "/health/live",
    "/health/ready",
    "/docs/openapi.json",
    "/{text}",
)
GETS = (*_CHEAP * 5, "/metrics", "/docs")
"""The last two are dear to answer."""
ODD_NUMBERS = (
    *("1e999", "-1e999", "1e-999", "1.7976931348623157e308", "5e-324", "-0.0", "NaN"),
    *("Infinity", "-Infinity", "0x10", "1_000", "01", ".5", "1.", "+1", "--1", "1e", "9" * 400),
    *("0." + "0" * 400 + "1", "9007199254740993", "-9223372036854775809", "1e15", "1e-15"),
)
ODD_VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1e308, [], {}, [[]], [None], {"": None})
DEEP = 20_000


@dataclass(frozen=True)
class WireRequest:
    """Bytes of one request.

    Attributes
    ----------
    method, path:
        As they are sent.
    content:
        The whole request.
    kind:
        What is odd about it.
    is_score:
        Whether it asks ``/v1/score`` for something under an idempotency key.
    closes:
        Whether the connection cannot be used after it.
    """

    method: str
    path: str
    content: bytes
    kind: str
    is_score: bool = False
    closes: bool = False


def draw_request(draw: random.Random, number: int, ids: Mapping[str, Sequence[str]]) -> WireRequest:
    """The request of this number.

    Parameters
    ----------
    draw:
        Of this request alone.
    number:
        Its number.
    ids:
        What was answered so far: ids by what they name, ``decision``, ``account``, ``call``,
        ``instruction``, ``command`` and ``event``, and cursors under ``cursor``.
    """
    if draw.random() < 0.25:
        return _read(draw, ids)
    template = draw.choice((*POSTS, *POSTS[:5], *POSTS[:1] * 4))
    body = BODIES[template](draw)
    if "call_id" in body and ids.get("call"):
        body["call_id"] = draw.choice(ids["call"])
    path = _filled(draw, template, ids)
    kind = "plain" if template in _COMMANDS and draw.random() < 0.4 else draw.choice(_KINDS)
    content = _ODD[kind](draw, body)
    return _framed(draw, path, content, kind, f"wire-{number}")


def _text(body: Any) -> str:
    return json.dumps(body, ensure_ascii=True)


def _plain(draw: random.Random, body: Any) -> bytes:
    return _text(body).encode()


def _encoding(draw: random.Random, body: Any) -> bytes:
    text = _text(body)
    other = draw.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1", "raw"))
    if other != "raw":
        return text.encode(other)
    content = bytearray(text.encode())
    content[draw.randrange(len(content))] = draw.choice((0xFF, 0xC0, 0x80, 0x00, 0xED))
    return bytes(content)


def _number(draw: random.Random, body: Any) -> bytes:
    text = _text(body)
    numbers = [match.span() for match in re.finditer(r"(?<=: )-?\d[\d.e+-]*", text)]
    if not numbers:
        return text.encode()
    start, end = draw.choice(numbers)
    return (text[:start] + draw.choice(ODD_NUMBERS) + text[end:]).encode()


def _nesting(draw: random.Random, body: Any) -> bytes:
    depth = draw.choice((50, 600, DEEP))
    opened, closed = draw.choice((("[", "]"), ('{"a":', "}")))
    end = closed * depth if draw.random() < 0.5 else ""
    nested = f"{opened * depth}1{end}"
    return nested.encode() if draw.random() < 0.5 else f'{{"accounts": {nested}}}'.encode()


def _duplicate(draw: random.Random, body: Any) -> bytes:
    text = _text(body)
    keys = re.findall(r'"(\w+)": (-?[\d.]+|"[^"]*")', text)
    if not keys:
        return text.encode()
    key, value = draw.choice(keys)
    pair = f'"{key}": {value}'
    return text.replace(pair, f"{pair}, {pair}", 1).encode()


def _repeated_bytes(draw: random.Random, body: Any) -> bytes:
    """A history, which is decoded late, that names a key twice which is no UTF-8."""
    key = draw.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xe2\x82"))
    inner = draw.choice((b'{"%s":1,"%s":2}', b'{"%s":{"a":1,"a":2},"%s":1}')) % (key, key)
    text = _text(body).encode()
    return re.sub(rb'"account_id"', lambda _: b'"history": %s, "account_id"' % inner, text, count=1)


def _wrong_type(draw: random.Random, body: Any) -> bytes:
    _replace(draw, body, draw.choice(ODD_VALUES))
    return _plain(draw, body)


def _odd_text(draw: random.Random, body: Any) -> bytes:
    _replace(draw, body, draw.choice(ODD_TEXTS))
    return _plain(draw, body)


def _extra_key(draw: random.Random, body: Any) -> bytes:
    place = draw.choice([place for place in _places(body) if isinstance(place[0], dict)])
    place[0][draw.choice(ODD_TEXTS)] = draw.choice(ODD_VALUES)
    return _plain(draw, body)


def _missing(draw: random.Random, body: Any) -> bytes:
    container, key = draw.choice(list(_places(body)))
    del container[key]
    return _plain(draw, body)


def _cut(draw: random.Random, body: Any) -> bytes:
    content = _plain(draw, body)
    return content[: draw.randrange(len(content))]


def _bytes(draw: random.Random, body: Any) -> bytes:
    return draw.randbytes(draw.randrange(200))


_ODD: dict[str, Callable[[random.Random, Any], bytes]] = {
    "plain": _plain,
    "encoding": _encoding,
    "number": _number,
    "nesting": _nesting,
    "duplicate key": _duplicate,
    "repeated bytes": _repeated_bytes,
    "wrong type": _wrong_type,
    "odd text": _odd_text,
    "extra key": _extra_key,
    "missing key": _missing,
    "cut": _cut,
    "bytes": _bytes,
}


_KINDS = (*list(_ODD) * 2, *list(_ODD)[1:])
"""A sound body is the dearest and the least odd."""


def _places(body: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    pending = [body]
    while pending:
        container = pending.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(items):
            found.append((container, key))
            if isinstance(value, (dict, list)):
                pending.append(value)
    return found


def _replace(draw: random.Random, body: Any, value: Any) -> None:
    container, key = draw.choice(_places(body))
    container[key] = value


def _framed(draw: random.Random, path: str, body: bytes, kind: str, key: str) -> WireRequest:
    headers = ["Host: 127.0.0.1", "Content-Type: application/json"]
    if path not in _UNKEYED:
        headers.append(f"Idempotency-Key: {key}")
    chunked = draw.random() < 0.25
    if chunked:
        headers.append("Transfer-Encoding: chunked")
        body = _chunks(draw, body)
    else:
        headers.append(f"Content-Length: {len(body)}")
    if draw.random() < 0.1:
        headers.append(draw.choice(_ODD_HEADERS))
    head = "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode("latin-1")
    name = f"{kind}, chunked" if chunked else kind
    return WireRequest("POST", path, head + body, name, is_score=path == POSTS[0])


_ODD_HEADERS = (
    "Accept-Encoding: \u00ff",
    "X-Long: " + "x" * 7_000,
    "Accept: text/html;q=nan",
    "Authorization: Bearer \u00e9",
    "X-Forwarded-For: ::::",
    "Content-Encoding: identity",
    "If-None-Match: *",
    "Range: bytes=0-",
)


def _chunks(draw: random.Random, body: bytes) -> bytes:
    parts, place = [], 0
    while place < len(body):
        size = draw.randrange(1, 400)
        part = body[place : place + size]
        extension = ";name=value" if draw.random() < 0.1 else ""
        parts.append(f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n")
        place += size
    return b"".join(parts) + b"0\r\n\r\n"


def _filled(draw: random.Random, template: str, ids: Mapping[str, Sequence[str]]) -> str:
    """A path with ids that were answered, or odd texts, in the place of its names."""

    def text_of(match: re.Match[str]) -> str:
        text, known, place = draw.choice(ODD_TEXTS), draw.random() < 0.6, draw.random()
        answered = ids.get(match[1])
        if known and answered:
            text = answered[int(place * len(answered))]
        escaped = quote(text.encode("utf-8", "surrogatepass")[:2_000], safe="")
        return "%zz%" if draw.random() < 0.05 else escaped

    return re.sub(r"{(\w+)}", text_of, template)


def _read(draw: random.Random, ids: Mapping[str, Sequence[str]]) -> WireRequest:
    path = _filled(draw, draw.choice(GETS), ids)
    method = draw.choice(("GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "M-X"))
    content = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    if draw.random() < 0.03:
        odd = draw.choice(
            (
                f"{method} {path} HTTP/1.0\r\n\r\n",
                f"{method} http://other{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                f"{method} {path} HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
                f"GET {path}\r\n\r\n",
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n"
                "Content-Length: 2\r\n\r\nab",
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n"
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
            )
        )
        return WireRequest(method, path, odd.encode(), "framing", closes=True)
    return WireRequest(method, path, content, "read")
