"""What every route says of itself in the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Operation

from serving.http.problems import PROBLEM_JSON, Problem

READ_PROBLEMS = (401, 403, 429, 503)
POST_PROBLEMS = (*READ_PROBLEMS, 413, 415, 422)
_TEXTS = {
    401: "No valid key.",
    403: "The key lacks the scope, or the host or origin of the request is not allowed.",
    404: "There is no such thing.",
    409: "The Idempotency-Key came with another body, or updates of an account are missing.",
    413: "The body is too long.",
    415: "The body is not application/json.",
    422: "The request is invalid.",
    429: "Too many requests of this key, or too many without a valid one; see Retry-After.",
    503: "The ledger cannot be reached, or too much is asked at once; see Retry-After.",
}


@dataclass
class DocumentedOperation(Operation):
    """A route in the OpenAPI document, without the 400 that the framework adds: it is 422 here."""

    def __post_init__(self) -> None:
        if self.responses is not None:
            self.responses.pop("400", None)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems with which a route may answer, by status."""
    return {status: problem_response(_TEXTS[status]) for status in statuses}


def problem_response(description: str) -> ResponseSpec:
    """A problem with another description than that of its status."""
    return ResponseSpec(
        Problem, description=description, media_type=PROBLEM_JSON, generate_examples=False
    )
