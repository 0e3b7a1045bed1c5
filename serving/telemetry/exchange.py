"""A request and its answer, as logs, metrics and traces see them."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any

HEADER = b"x-request-id"

UNMATCHED = "unmatched"
"""Route of what no route takes: a path may be anything, and an account's is not for the log."""

UNKNOWN_METHOD = "-"
"""Method of a request whose head was not complete."""

_SANE_ID = re.compile(rb"[0-9A-Za-z._\-]{1,64}")
_PREFIX = secrets.token_hex(6)
_NUMBERS = itertools.count(1)


class Exchange:
    """A request in work.

    Attributes
    ----------
    id:
        What the caller gave as ``X-Request-Id`` if it is 1 to 64 letters, digits, dots, dashes and
        underscores; else one of our own.
    started:
        `time.perf_counter` when it came.
    method, route:
        Its method, and the template of its path; empty until it is known.
    status, seconds:
        Of the answer, and the time until it began; None until then.
    decision_ids, decisions:
        The first decisions of the answer, and how many there are.
    refusal:
        Kind of the problem that answers it; empty where none does.
    span:
        Its span where it is traced.
    """

    __slots__ = (
        "_account_ids",
        "decision_ids",
        "decisions",
        "id",
        "method",
        "refusal",
        "route",
        "seconds",
        "span",
        "started",
        "status",
    )

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], method: str = "GET") -> None:
        self.started = time.perf_counter()
        self.id = _request_id(headers)
        self.method = method
        self.route = ""
        self.status: int | None = None
        self.seconds: float | None = None
        self.decision_ids: Sequence[str] = ()
        self.decisions = 0
        self.refusal = ""
        self.span: Any = None
        self._account_ids: Callable[[], Iterable[str]] | None = None

    def answered(self, status: int) -> None:
        """Note the beginning of the answer; the first one counts."""
        if self.status is None:
            self.status = status
            self.seconds = time.perf_counter() - self.started

    def account_ids(self) -> Iterable[str]:
        """Ids of its accounts, which no log may show."""
        return () if self._account_ids is None else self._account_ids()

    def is_on(self, account_ids: Callable[[], Iterable[str]]) -> None:
        """Say whose accounts it is on; asked for only where something is logged."""
        self._account_ids = account_ids


CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The request in work in this task or thread."""


_KEY = "exchange"


def exchange_of(scope: Any) -> Exchange:
    """The exchange of an ASGI request, the same for all that handle it."""
    state = scope.setdefault("state", {})
    exchange: Exchange | None = state.get(_KEY)
    if exchange is None:
        exchange = state[_KEY] = Exchange(scope["headers"], scope["method"])
    return exchange


def withhold_accounts(account_ids: Callable[[], Iterable[str]]) -> None:
    """Keep the ids of accounts out of what is logged while the current request is in work."""
    exchange = CURRENT.get()
    if exchange is not None:
        exchange.is_on(account_ids)


def note_problem(kind: str) -> None:
    """Say which kind of problem answers the current request."""
    exchange = CURRENT.get()
    if exchange is not None:
        exchange.refusal = kind


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == HEADER and _SANE_ID.fullmatch(value):
            return value.decode()
    return f"{_PREFIX}-{next(_NUMBERS):x}"
