"""``POST /v1/score`` without the framework: headers, body, queue, answer.

The framework routes requests here; plain ones bypass its routing (`ScoreRoute.takes`). The same
code answers both.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from decisions.batch import EncodedResponse, ScoreCall
from decisions.messages import ScoreRequest
from ledger.canonical import sha256_hex
from serving.admission.deadline import HEADER, DeadlineError, call_seconds
from serving.admission.lanes import Lanes
from serving.http.answers import PROBLEM, Answer, problem_answer
from serving.http.auth import Access, address_of
from serving.http.problems import NO_BODY, bad_request, invalid, note_repeated, too_large
from serving.http.strict_body import strict_decoder
from serving.score_queue import ScoreQueue
from serving.settings import ServingSettings
from serving.telemetry.exchange import CURRENT, withhold_accounts

PATH = "/v1/score"

_PLAIN_HOST = re.compile(rb"[0-9A-Za-z.:\-]*")
"""Hosts that the framework is known to accept; it decides on any other."""


LONG_BODY = 256 * 2**10
"""From this size on a body takes milliseconds to decode: a lane does it, not the event loop."""

_OK = 200
_TIMEOUT = HEADER.lower().encode()
_JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")


class _DisconnectedError(Exception):
    """The client left before its body was complete."""


class ScoreRoute:
    """The ASGI application behind ``POST /v1/score``.

    Parameters
    ----------
    queue:
        Decides on calls.
    lanes:
        Where long bodies are decoded, and keys looked up that are in a database server.
    access:
        Whose calls they are.
    settings:
        A body longer than its limit is answered 413 as soon as that is known; a call that waits
        longer than its time 503.
    """

    def __init__(
        self, queue: ScoreQueue, lanes: Lanes, access: Access, settings: ServingSettings
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._access = access
        self._max_body_bytes = settings.max_body_bytes
        self._call_seconds = settings.call_seconds
        self._decode = strict_decoder(ScoreRequest)

    @staticmethod
    def takes(scope: Mapping[str, Any]) -> bool:
        """Whether a request is certainly for this route and needs no routing by the framework."""
        return (
            scope["path"] == PATH
            and scope["method"] == "POST"
            and not scope.get("root_path")
            and _PLAIN_HOST.fullmatch(_header(scope["headers"], b"host") or b"") is not None
        )

    async def answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer | None:
        """The answer to a request; None if the client left before its body was complete."""
        exchange = CURRENT.get()
        if exchange is not None:
            exchange.route = PATH
        try:
            scored = await self._score(scope, receive)
        except _DisconnectedError:
            return None
        except Exception as error:  # noqa: BLE001  every error has its answer
            return problem_answer(error)
        if exchange is not None:
            exchange.decision_ids, exchange.decisions = scored.decision_ids, scored.decisions
        headers = [_REPLAYED] if scored.replayed else []
        refused = scored.status != _OK
        if refused:
            note_repeated(scored.body)
        headers += (PROBLEM if refused else _JSON, (b"content-length", b"%d" % len(scored.body)))
        return Answer(scored.status, headers, scored.body)

    async def _score(self, scope: Mapping[str, Any], receive: Receive) -> EncodedResponse:
        headers = scope["headers"]
        owner = await self._owner(_header(headers, b"authorization"), address_of(scope))
        body = await self._body(_header(headers, b"content-length"), receive)
        timeout = _header(headers, _TIMEOUT)
        header = None if timeout is None else timeout.decode("latin-1")
        seconds = call_seconds(header, self._call_seconds)
        if len(body) < LONG_BODY:
            request, sha256 = self._read(body)
        else:  # others are answered meanwhile
            request, sha256 = await self._lanes.decode.run(lambda: self._read(body), seconds)
        withhold_accounts(lambda: (account.account_id for account in request.accounts))
        key = _header(headers, b"idempotency-key")
        call = ScoreCall(request, owner, None if key is None else key.decode("latin-1"), sha256)
        result = await self._queue.submit(call, len(body), seconds)
        if isinstance(result, EncodedResponse):
            return result
        raise result

    def _read(self, body: bytes) -> tuple[ScoreRequest, str]:
        """What a body asks for, and its SHA-256."""
        return self._decode(body), sha256_hex(body)

    async def _owner(self, authorization: bytes | None, address: str) -> str:
        text = None if authorization is None else authorization.decode("latin-1")
        if self._access.blocks:
            seconds = self._call_seconds
            look_up = self._lanes.keys.run(
                lambda: self._access.owner(text, "score", address), seconds
            )
            try:
                return await asyncio.wait_for(look_up, seconds)  # also one that has begun
            except TimeoutError:
                raise DeadlineError(seconds) from None
        return self._access.owner(text, "score", address)

    async def _body(self, announced: bytes | None, receive: Receive) -> bytes:
        """The body, as long as it is within the limit."""
        if announced is not None and _content_length(announced) > self._max_body_bytes:
            raise too_large()
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise _DisconnectedError
            part = message["body"]
            size += len(part)
            if size > self._max_body_bytes:
                raise too_large()
            parts.append(part)
            more = message.get("more_body", False)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if not body:
            raise invalid(NO_BODY)
        return body


class ScoreRouting(ASGIMiddleware):
    """Passes requests that the framework routed to its score handler to `ScoreRoute`.

    Parameters
    ----------
    route:
        Answers.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, route: ScoreRoute) -> None:
        self._route = route

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Answer; the handler itself only describes the route in the OpenAPI document."""
        answer = await self._route.answer(scope, receive)
        if answer is not None:
            await answer.send(send)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of a name in lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def _content_length(announced: bytes) -> int:
    text = announced.decode("latin-1")
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"Invalid content-length: {text!r}") from None
