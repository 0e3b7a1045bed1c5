"""Problems: every error that leaves the endpoint has the one form of RFC 9457."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException

from decisions.errors import (
    NoAccountScoredError,
    NoMarketError,
    NoRulesError,
    NotFoundError,
    RequestError,
)
from decisions.messages import AccountProblem
from ledger.idempotency import LedgerConflictError
from market.core.errors import LedgerError, MargincastError, UnrecordableError

PROBLEM_JSON = "application/problem+json"

_LOG = logging.getLogger("margincast.serving")
_TYPE = "urn:margincast:problem:"
_SERVER_ERROR = 500
_DETAILS = {
    404: "there is no such route; /docs lists them",
    405: "the route does not know this method; the header Allow names those it knows",
    413: "the body is longer than this endpoint takes; send fewer accounts, bars or quotes at once",
}
_REFUSALS: dict[type, tuple[int, str]] = {
    NoAccountScoredError: (422, "no-account-answered"),
    RequestError: (422, "invalid-request"),
    NotFoundError: (404, "not-found"),
    NoMarketError: (503, "no-market"),
    NoRulesError: (503, "no-rules"),
}
"""Status and kind of problem by the error of `decisions.errors`."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A machine-readable problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[AccountProblem] = []


class ProblemError(MargincastError):
    """A request that HTTP itself refuses: its body, its parameters or its key.

    Parameters
    ----------
    status:
        HTTP status.
    kind:
        Short name of the problem, the end of its type URI.
    detail:
        What was given, what was expected, what to do.
    errors:
        Problems of single accounts.
    headers:
        Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Sequence[AccountProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            _TYPE + kind, HTTPStatus(status).phrase, status, detail, list(errors)
        )
        self.headers = dict(headers or {})


def invalid(detail: str) -> ProblemError:
    """422: the request cannot be read."""
    return ProblemError(422, "invalid-request", detail)


def on_problem(_: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    """Answer what HTTP itself refuses."""
    return _respond(error.problem, error.headers)


def on_refusal(_: Request[Any, Any, Any], error: MargincastError) -> Response[bytes]:
    """Answer why a request cannot be carried out, see `decisions.errors`."""
    status, kind = next(_REFUSALS[cls] for cls in type(error).__mro__ if cls in _REFUSALS)
    problems = error.problems if isinstance(error, NoAccountScoredError) else ()
    return _respond(ProblemError(status, kind, str(error), problems).problem)


def on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework refused: no such route, too long a body, a bad parameter."""
    if isinstance(error, ValidationException):
        return _respond(invalid(_reasons(error.extra)).problem)
    status = error.status_code
    if status >= _SERVER_ERROR:
        _LOG.error("request failed", exc_info=error)
        return _internal()
    phrase = HTTPStatus(status).phrase
    kind = phrase.lower().replace(" ", "-")
    problem = Problem(_TYPE + kind, phrase, status, _DETAILS.get(status, error.detail))
    return _respond(problem, dict(error.headers or {}))


def on_conflict(_: Request[Any, Any, Any], error: LedgerConflictError) -> Response[bytes]:
    """409: an idempotency key came back with another body."""
    return _respond(ProblemError(409, "idempotency-conflict", str(error)).problem)


def on_unrecordable(_: Request[Any, Any, Any], error: UnrecordableError) -> Response[bytes]:
    """422: what the request leads to cannot be recorded; the ledger is sound."""
    _LOG.error("a request cannot be recorded", exc_info=error)
    return _respond(ProblemError(422, "unrecordable", f"nothing was recorded: {error}").problem)


def on_ledger_error(_: Request[Any, Any, Any], error: LedgerError) -> Response[bytes]:
    """503: without a record there is no answer. What the database said stays in the log."""
    _LOG.error("the ledger failed", exc_info=error)
    detail = "the ledger cannot be read or written; nothing was recorded, try again later"
    return _respond(ProblemError(503, "ledger-unavailable", detail).problem)


def on_unexpected(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """500 without internals; they are in the log."""
    _LOG.error("unexpected error", exc_info=error)
    return _internal()


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    ProblemError: on_problem,
    **dict.fromkeys(_REFUSALS, on_refusal),
    HTTPException: on_http_error,
    LedgerConflictError: on_conflict,
    UnrecordableError: on_unrecordable,
    LedgerError: on_ledger_error,
    Exception: on_unexpected,
}


def _internal() -> Response[bytes]:
    detail = "the request could not be answered; the cause is in the log of the endpoint"
    return _respond(ProblemError(_SERVER_ERROR, "internal-error", detail).problem)


def _reasons(extra: object) -> str:
    """What the framework says of parameters; of bodies it only sees that one is missing."""
    reasons = (
        [reason for reason in extra if isinstance(reason, dict)] if isinstance(extra, list) else []
    )
    if any(reason.get("key") == "data" for reason in reasons):
        return "the request has no body; send JSON"
    texts = [f"{reason.get('key')}: {reason.get('message')}" for reason in reasons]
    return "; ".join(texts) or "a parameter is missing or malformed"


def _respond(problem: Problem, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=headers or {},
    )


def json_response(body: bytes, headers: dict[str, str] | None = None) -> Response[Any]:
    """An encoded answer, sent as it is."""
    return Response(body, media_type=MediaType.JSON, headers=headers or {})
