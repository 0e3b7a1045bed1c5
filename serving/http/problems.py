"""Problems: every error of the endpoint has the form of RFC 9457."""

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
    NotReplayableError,
    RequestError,
)
from decisions.messages import AccountProblem
from ledger.idempotency import LedgerConflictError
from market.core.errors import LedgerError, MargincastError, UnknownOutcomeError, UnrecordableError
from monitoring.book.messages import UpdateResult
from monitoring.shared_market import NotFollowingError
from serving.admission.deadline import DeadlineError
from serving.admission.lane import LaneFullError
from serving.score_queue import RETRY_SECONDS, QueueRefusedError
from serving.telemetry.exchange import note_problem

PROBLEM_JSON = "application/problem+json"

_LOG = logging.getLogger("margincast.serving")
_TYPE = "urn:margincast:problem:"
_SERVER_ERROR = 500
NO_BODY = "the request has no body; send JSON"
_DETAILS = {
    404: "there is no such route; /docs lists them",
    405: "the route does not know this method; the header Allow names those it knows",
    413: "the body is longer than this endpoint takes; send fewer accounts, bars or quotes at once",
}
_UNKNOWN = (
    "the ledger failed while it recorded, and it is not known whether this request is on record; "
    "repeat it with the same Idempotency-Key, which never records it twice"
)
_REFUSALS: dict[type, tuple[int, str]] = {
    NoAccountScoredError: (422, "no-account-answered"),
    RequestError: (422, "invalid-request"),
    NotFoundError: (404, "not-found"),
    NotReplayableError: (409, "not-replayable"),
    NoMarketError: (503, "no-market"),
    NoRulesError: (503, "no-rules"),
    NotFollowingError: (503, "market-not-followed"),
    LedgerConflictError: (409, "idempotency-conflict"),
    QueueRefusedError: (503, "overloaded"),
    LaneFullError: (503, "overloaded"),
    DeadlineError: (503, "deadline"),
}
"""Status and kind of problem of errors that are for the caller to read."""

_LATER = (429, 503)
"""Statuses that say when to try again."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A machine-readable problem (RFC 9457)."""

    type: str
    """URI that names the kind of problem."""
    title: str
    """Phrase of the HTTP status."""
    status: int
    """HTTP status of the answer."""
    detail: str
    """What was given, what was expected, and what to do."""
    errors: list[AccountProblem] = []
    """Problems of single accounts; absent where there are none."""
    results: list[UpdateResult] = []
    """What became of each update of accounts; absent of other routes."""


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
    results:
        What became of each update of accounts.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Sequence[AccountProblem] = (),
        headers: Mapping[str, str] | None = None,
        results: Sequence[UpdateResult] = (),
    ) -> None:
        super().__init__(detail)
        phrase = HTTPStatus(status).phrase
        self.problem = Problem(_TYPE + kind, phrase, status, detail, list(errors), list(results))
        self.headers = dict(headers or {})


def invalid(detail: str) -> ProblemError:
    """422: the request cannot be read."""
    return ProblemError(422, "invalid-request", detail)


def bad_request(detail: str) -> ProblemError:
    """400: the request is not valid HTTP."""
    return ProblemError(400, _kind(400), detail)


def too_large() -> ProblemError:
    """413: the body is longer than the endpoint takes."""
    return ProblemError(413, _kind(413), _DETAILS[413])


def problem_of(error: BaseException) -> tuple[Problem, Mapping[str, str]]:
    """The problem of an error, and further headers; details that it does not show are logged."""
    problem, headers = _problem_of(error)
    note_problem(problem.type.removeprefix(_TYPE))
    return problem, headers


def encoded_refusal(error: MargincastError) -> tuple[int, bytes]:
    """Status and body of the answer to an error, to be kept under the key of its request."""
    problem, _ = _problem_of(error)
    return problem.status, msgspec.json.encode(problem)


def note_repeated(body: bytes) -> None:
    """Say which kind of problem answers the current request once more."""
    note_problem(msgspec.json.decode(body, type=Problem).type.removeprefix(_TYPE))


def _problem_of(error: BaseException) -> tuple[Problem, Mapping[str, str]]:
    headers: Mapping[str, str] = {}
    if isinstance(error, ProblemError):
        problem, headers = error.problem, error.headers
    elif isinstance(error, HTTPException):
        problem, headers = _of_http_error(error)
    else:
        problem = _problem(error)
    if problem.status in _LATER and "Retry-After" not in headers:
        seconds = RETRY_SECONDS
        if isinstance(error, LaneFullError | DeadlineError):
            seconds = error.retry_seconds
        headers = {**headers, "Retry-After": str(seconds)}
    return problem, headers


def _problem(error: BaseException) -> Problem:
    refusal = next((_REFUSALS[cls] for cls in type(error).__mro__ if cls in _REFUSALS), None)
    if refusal is not None:
        status, kind = refusal
        problems = error.problems if isinstance(error, NoAccountScoredError) else ()
        return ProblemError(status, kind, str(error), problems).problem
    if isinstance(error, UnrecordableError):  # the ledger is sound
        _LOG.error("a request cannot be recorded", exc_info=error)
        return ProblemError(422, "unrecordable", f"nothing was recorded: {error}").problem
    if isinstance(error, UnknownOutcomeError):
        _LOG.error("the ledger failed at a commit", exc_info=error)
        return ProblemError(503, "ledger-unavailable", _UNKNOWN).problem
    if isinstance(error, LedgerError):
        # Without a record there is no answer. What the database said stays in the log.
        _LOG.error("the ledger failed", exc_info=error)
        detail = "the ledger cannot be read or written; nothing was recorded, try again later"
        return ProblemError(503, "ledger-unavailable", detail).problem
    _LOG.error("unexpected error", exc_info=error)
    return _internal()


def _of_http_error(error: HTTPException) -> tuple[Problem, Mapping[str, str]]:
    """What the framework refused: no such route, too long a body, a bad parameter."""
    if isinstance(error, ValidationException):
        return invalid(_reasons(error.extra)).problem, {}
    status = error.status_code
    if status >= _SERVER_ERROR:
        _LOG.error("request failed", exc_info=error)
        return _internal(), {}
    detail = _DETAILS.get(status, error.detail)
    return ProblemError(status, _kind(status), detail).problem, error.headers or {}


def on_error(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """An error as a problem."""
    problem, headers = problem_of(error)
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=dict(headers),
    )


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    HTTPException: on_error,
    Exception: on_error,
}


def _kind(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "-")


def _internal() -> Problem:
    detail = "the request could not be answered; the cause is in the log of the endpoint"
    return ProblemError(_SERVER_ERROR, "internal-error", detail).problem


def _reasons(extra: object) -> str:
    """What the framework says of parameters; of bodies it only sees that one is missing."""
    reasons = (
        [reason for reason in extra if isinstance(reason, dict)] if isinstance(extra, list) else []
    )
    if any(reason.get("key") == "data" for reason in reasons):
        return NO_BODY
    texts = [f"{reason.get('key')}: {reason.get('message')}" for reason in reasons]
    return "; ".join(texts) or "a parameter is missing or malformed"


def kept_problem(status: int, body: bytes, headers: dict[str, str]) -> Response[Any]:
    """An encoded problem that was kept, sent as it is."""
    note_repeated(body)
    return Response(body, status_code=status, media_type=PROBLEM_JSON, headers=headers)


def json_response(body: bytes, headers: dict[str, str] | None = None) -> Response[Any]:
    """An encoded answer, sent as it is."""
    return Response(body, media_type=MediaType.JSON, headers=headers or {})
