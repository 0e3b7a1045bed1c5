"""What must hold of every answer, taken by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from benchmarks.fuzz.caller import Answer
from benchmarks.fuzz.generators.requests import BARS, QUOTES, SCORE, WHAT_IF, Request
from benchmarks.fuzz.oracles.decisions import decision_faults
from decisions.messages import ScoreRequest, ScoreResponse
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from monitoring.market_state.messages import BarResult, BarsResponse
from monitoring.quotes.messages import QuoteResult, QuotesResponse
from serving.http.problems import PROBLEM_JSON, Problem
from serving.schemas.read_messages import (
    DecisionPage,
    ModelInfo,
    Readiness,
    RecordedDecision,
    RuleSetInfo,
)

Json = dict[str, Any]

_STATUSES = {
    f"POST {SCORE}": (200, 401, 403, 409, 413, 422),
    f"POST {WHAT_IF}": (200, 401, 403, 413, 422),
    f"POST {BARS}": (200, 401, 403, 413, 422),
    f"POST {QUOTES}": (200, 401, 403, 413, 422),
    "GET /v1/decisions/": (200, 401, 403, 404),
    "GET /v1/accounts/": (200, 401, 403, 404, 422),
    "GET /v1/model": (200, 401, 403, 404),
    "GET /v1/ruleset": (200, 401, 403, 404, 422),
    "GET /health/ready": (200,),
    "GET /metrics": (200,),
}
"""Documented statuses. 503 is left out: the ledger of a campaign can be written, its market has
bars and its rules are in force."""

_OTHER_STATUSES = (200, 204, 404, 405)

_ANSWERS: dict[str, Any] = {
    SCORE: ScoreResponse,
    WHAT_IF: WhatIfResponse,
    BARS: BarsResponse,
    QUOTES: QuotesResponse,
    "/v1/decisions/": RecordedDecision,
    "/v1/accounts/": DecisionPage,
    "/v1/model": ModelInfo,
    "/v1/ruleset": RuleSetInfo,
    "/health/ready": Readiness,
}
_REQUESTS: dict[str, Any] = {SCORE: ScoreRequest, WHAT_IF: WhatIfRequest}


def answer_faults(request: Request, answer: Answer) -> Iterator[str]:
    """What is wrong with an answer, each as ``name: figures``."""
    if answer.hung:
        yield f"hang: {'could not be ended, ' if answer.stuck else ''}at {answer.hung}"
        return
    for warned in answer.warned:
        yield f"warning: {warned}"
    route = _route(request)
    if answer.status >= 500 or answer.status == 0:
        causes = ", ".join(answer.errors) or "nothing was logged"
        yield f"status {answer.status}: {causes}"
        return
    if answer.errors:
        yield f"error in the log with status {answer.status}: {', '.join(answer.errors)}"
    if answer.status not in _STATUSES.get(f"{request.method} {route}", _OTHER_STATUSES):
        yield f"undocumented status {answer.status}: {answer.body[:300]!r}"
        return
    if answer.status >= 400:
        yield from _problem_faults(request, answer)
    elif route in _ANSWERS and request.method in ("GET", "POST"):
        yield from _body_faults(route, request, answer)


def decoded_request(request: Request) -> Any:
    """The request as the endpoint reads it; None where its body does not fit."""
    try:
        return msgspec.json.decode(request.body(), type=_REQUESTS[_route(request)])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return None


def _route(request: Request) -> str:
    path = request.target.partition("?")[0]
    for family in ("/v1/decisions/", "/v1/accounts/"):
        if path.startswith(family):
            return family
    return path


def _problem_faults(request: Request, answer: Answer) -> Iterator[str]:
    if request.method == "HEAD":
        return
    if answer.headers.get("content-type") != PROBLEM_JSON:
        yield f"problem of another type: {answer.headers.get('content-type')}"
        return
    try:
        problem = msgspec.json.decode(answer.body, type=Problem)
    except msgspec.MsgspecError as error:
        yield f"problem does not fit its schema: {error}"
        return
    if problem.status != answer.status or not problem.detail:
        yield f"problem says {problem.status} with status {answer.status}: {problem.detail!r}"
    if len(answer.body) > 1_000_000:
        yield f"problem of {len(answer.body)} bytes"


def _body_faults(route: str, request: Request, answer: Answer) -> Iterator[str]:
    try:
        msgspec.json.decode(answer.body, type=_ANSWERS[route])
        found = json.loads(answer.body, parse_constant=_refuse)
    except (msgspec.MsgspecError, ValueError) as error:
        yield f"answer does not fit its schema: {error}"
        return
    if route == SCORE:
        yield from _scored_faults(request, found)
    elif route == WHAT_IF:
        yield from _what_if_faults(request, found)
    elif route in (BARS, QUOTES):
        yield from _result_faults(route, request, found)
    elif route == "/v1/accounts/":
        for decision in found["decisions"]:
            yield from decision_faults(decision)
    elif route == "/v1/decisions/":
        yield from decision_faults(found)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _scored_faults(request: Request, found: Json, *, ids: bool = True) -> Iterator[str]:
    asked = msgspec.to_builtins(decoded_request(request))
    accounts: dict[str, Json] = {one["account_id"]: one for one in asked["accounts"]}
    answered = [decision["account_id"] for decision in found["decisions"]]
    failed = [error["account_id"] for error in found["errors"]]
    if sorted([*answered, *failed]) != sorted(accounts):
        yield f"not every account is answered once: {answered} and {failed} of {list(accounts)}"
    if answered != [name for name in accounts if name in set(answered)]:
        yield f"decisions are out of order: {answered} of {list(accounts)}"
    for decision in found["decisions"]:
        if ids != ("decision_id" in decision):
            yield f"decision_id is {decision.get('decision_id')!r}"
        yield from decision_faults(decision, accounts.get(decision["account_id"]))
    for error in found["errors"]:
        if not error["detail"]:
            yield f"error without detail: {error}"


def _what_if_faults(request: Request, found: Json) -> Iterator[str]:
    asked: WhatIfRequest = decoded_request(request)
    for side in ("before", "after"):
        for fault in _scored_faults(request, found[side], ids=False):
            # Positions change: which marks belong to them is not known from the request.
            if not (side == "after" and fault.startswith("no mark")):
                yield fault
    if (asked.target_headroom is not None) != ("remedies" in found):
        yield "remedies are answered where they were not asked for, or not where they were"
    for remedy in found.get("remedies", ()):
        yield from _remedy_faults(remedy)
    largest = found.get("largest", ())
    if len(largest) != len(asked.largest):
        yield f"{len(asked.largest)} largest sizes were asked for, {len(largest)} answered"
    for one in largest:
        size, sign = one["quantity"], 1.0 if one["side"] == "buy" else -1.0
        if size is None and not one["unlimited"] and not one.get("detail"):
            yield f"largest size is null without a reason: {one}"
        if size is not None and size * sign < 0.0:
            yield f"largest size is on the other side: {one}"


def _remedy_faults(remedy: Json) -> Iterator[str]:
    if remedy["deposit"] < 0.0 or remedy["deposit_after_plan"] < 0.0:
        yield f"negative deposit: {remedy}"
    for cut in (*remedy["single"], *remedy["plan"]):
        if not 0.0 < cut["share"] <= 1.0 or not cut["cost"] >= 0.0:
            yield f"cut outside its bounds: {cut}"


def _result_faults(route: str, request: Request, found: Json) -> Iterator[str]:
    key, name, result = (
        ("bars", "symbol", BarResult) if route == BARS else ("quotes", "instrument", QuoteResult)
    )
    sent = json.loads(request.body())[key]
    results = found["results"]
    if [one[name] for one in results] != [one[name] for one in sent]:
        yield f"results do not follow the {key}"
    for one in results:
        if one["status"] not in _result_statuses(result):
            yield f"undocumented result: {one}"
        if one["status"] in ("rejected", "suspect", "late") and not one.get("detail"):
            yield f"result without a reason: {one}"
    if found["as_of"] is None:
        yield "as_of is null though there is a market"


def _result_statuses(result: Any) -> tuple[str, ...]:
    (field,) = (one for one in msgspec.structs.fields(result) if one.name == "status")
    return get_args(field.type)
