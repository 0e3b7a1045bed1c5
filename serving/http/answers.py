"""Responses that are sent without the framework."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from litestar.types import Send

from serving.http.problems import PROBLEM_JSON, problem_of

PROBLEM = (b"content-type", PROBLEM_JSON.encode())
"""The header of a problem."""


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: Send) -> None:
        """Send it."""
        status, headers, body = self
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def problem_answer(error: BaseException) -> Answer:
    """The answer to an error; details that it does not show are logged."""
    problem, extra = problem_of(error)
    body = msgspec.json.encode(problem)
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in extra.items()]
    headers += (PROBLEM, (b"content-length", b"%d" % len(body)))
    return Answer(problem.status, headers, body)
