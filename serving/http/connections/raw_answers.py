"""Answers of the server itself, without the application: a request was late, too long, too much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from serving.http.problems import PROBLEM_JSON, ProblemError
from serving.telemetry.exchange import HEADER, exchange_of

RETRY_AFTER = {"retry-after": "1"}


class RawAnswer:
    """A problem that ends its connection.

    Can be written as bytes, and is an ASGI application that answers with it.

    Parameters
    ----------
    error:
        The problem, and further headers.

    Attributes
    ----------
    status:
        Of the problem.
    """

    def __init__(self, error: ProblemError) -> None:
        body = msgspec.json.encode(error.problem)
        self.status = error.problem.status
        self._title = error.problem.title
        self._body = body
        self._headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in error.headers.items()),
        ]

    def encode(self, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The whole response."""
        lines = [f"HTTP/1.1 {self.status} {self._title}".encode()]
        lines += [b"%s: %s" % header for header in (*default_headers, *self._headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self._body

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        """Answer a request."""
        headers = [*self._headers, (HEADER, exchange_of(scope).id.encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


LATE_HEAD = RawAnswer(
    ProblemError(408, "request-timeout", "the head of the request was not complete in time")
)
LATE_BODY = RawAnswer(
    ProblemError(
        408,
        "request-timeout",
        "the body of the request was not complete in time; send fewer accounts, bars or quotes "
        "at once",
    )
)
LONG_HEAD = RawAnswer(
    ProblemError(
        431,
        "request-header-fields-too-large",
        "the request line and headers are longer, or the headers more, than this endpoint takes",
    )
)
TOO_MANY_BYTES = RawAnswer(
    ProblemError(
        503,
        "overloaded",
        "the bodies of all requests that are not answered yet are as much as this endpoint takes; "
        "try again later",
        headers=RETRY_AFTER,
    )
)
TOO_MANY_CONNECTIONS = RawAnswer(
    ProblemError(
        503,
        "overloaded",
        "as many connections are open as this endpoint takes; try again later",
        headers=RETRY_AFTER,
    )
)
STOPPING = RawAnswer(
    ProblemError(
        503,
        "overloaded",
        "the endpoint stops, and the request was not complete; send it to its successor",
        headers=RETRY_AFTER,
    )
)


def malformed(reason: str) -> RawAnswer:
    """400: what was sent is no HTTP request that is answered here."""
    return RawAnswer(ProblemError(400, "bad-request", reason))
