"""What must hold of every response, taken by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from benchmarks.fuzz.caller import Response
from benchmarks.fuzz.generators.requests import (
    BARS,
    EXPLANATION,
    QUOTES,
    SCORE,
    WHAT_IF,
    Request,
)
from benchmarks.fuzz.oracles.decisions import decision_faults
from decisions.messages import ScoreRequest, ScoreResponse
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from monitoring.market_state.messages import BarResult, BarsResponse
from monitoring.quotes.messages import QuoteResult, QuotesResponse
from serving.http.problems import PROBLEM_JSON, Problem
from serving.schemas.read_messages import (
    DecisionExplanation,
    DecisionPage,
    ModelInfo,
    Readiness,
    RecordedDecision,
    RuleSetInfo,
)

Json = dict[str, Any]

_EXPLANATIONS = f"/v1/decisions/...{EXPLANATION}"
"""The route of explanations."""

_STATUSES = {
    f"POST {SCORE}": (200, 401, 403, 409, 413, 422),
    f"POST {WHAT_IF}": (200, 401, 403, 413, 422),
    f"POST {BARS}": (200, 401, 403, 413, 422),
    f"POST {QUOTES}": (200, 401, 403, 413, 422),
    "GET /v1/decisions/": (200, 401, 403, 404),
    f"GET {_EXPLANATIONS}": (200, 401, 403, 404),
    "GET /v1/accounts/": (200, 401, 403, 404, 422),
    "GET /v1/model": (200, 401, 403, 404),
    "GET /v1/ruleset": (200, 401, 403, 404, 422),
    "GET /health/ready": (200,),
    "GET /metrics": (200,),
}
"""Documented statuses. 503 is left out: the ledger of a campaign can be written, its market has
bars, its rules are in force, and its bundles are all there, so 409 is no explanation."""

_OTHER_STATUSES = (200, 204, 404, 405)

_RESPONSES: dict[str, Any] = {
    SCORE: ScoreResponse,
    WHAT_IF: WhatIfResponse,
    BARS: BarsResponse,
    QUOTES: QuotesResponse,
    "/v1/decisions/": RecordedDecision,
    _EXPLANATIONS: DecisionExplanation,
    "/v1/accounts/": DecisionPage,
    "/v1/model": ModelInfo,
    "/v1/ruleset": RuleSetInfo,
    "/health/ready": Readiness,
}
_REQUESTS: dict[str, Any] = {SCORE: ScoreRequest, WHAT_IF: WhatIfRequest}


def response_faults(request: Request, response: Response) -> Iterator[str]:
    """What is wrong with a response, each as ``name: figures``."""
    if response.hang:
        yield f"hang: {'could not be ended, ' if response.stuck else ''}at {response.hang}"
        return
    for warning in response.python_warnings:
        yield f"warning: {warning}"
    route = _route(request)
    if response.status >= 500 or response.status == 0:
        causes = ", ".join(response.errors) or "nothing was logged"
        yield f"status {response.status}: {causes}"
        return
    if response.errors:
        yield f"error in the log with status {response.status}: {', '.join(response.errors)}"
    if response.status not in _STATUSES.get(f"{request.method} {route}", _OTHER_STATUSES):
        yield f"undocumented status {response.status}: {response.body[:300]!r}"
        return
    if response.status >= 400:
        yield from _problem_faults(request, response)
    elif route in _RESPONSES and request.method in ("GET", "POST"):
        yield from _body_faults(route, request, response)


def decoded_request(request: Request) -> Any:
    """The request as the endpoint reads it; None where its body does not fit."""
    try:
        return msgspec.json.decode(request.body(), type=_REQUESTS[_route(request)])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return None


def plain(message: object) -> Any:
    """A request, or a part of one, in plain form; the history of an account as it was sent."""
    return msgspec.to_builtins(message, enc_hook=lambda raw: json.loads(bytes(raw)))


def _route(request: Request) -> str:
    path = request.target.partition("?")[0]
    if path.startswith("/v1/decisions/") and path.endswith(EXPLANATION):
        return _EXPLANATIONS
    for family in ("/v1/decisions/", "/v1/accounts/"):
        if path.startswith(family):
            return family
    return path


def _problem_faults(request: Request, response: Response) -> Iterator[str]:
    if request.method == "HEAD":
        return
    if response.headers.get("content-type") != PROBLEM_JSON:
        yield f"problem of another type: {response.headers.get('content-type')}"
        return
    try:
        problem = msgspec.json.decode(response.body, type=Problem)
    except msgspec.MsgspecError as error:
        yield f"problem does not fit its schema: {error}"
        return
    if problem.status != response.status or not problem.detail:
        yield f"problem says {problem.status} with status {response.status}: {problem.detail!r}"
    if len(response.body) > 1_000_000:
        yield f"problem of {len(response.body)} bytes"


def _body_faults(route: str, request: Request, response: Response) -> Iterator[str]:
    try:
        msgspec.json.decode(response.body, type=_RESPONSES[route])
        content = json.loads(response.body, parse_constant=_refuse)
    except (msgspec.MsgspecError, ValueError) as error:
        yield f"response does not fit its schema: {error}"
        return
    if route == SCORE:
        yield from _score_faults(request, content)
    elif route == WHAT_IF:
        yield from _what_if_faults(request, content)
    elif route in (BARS, QUOTES):
        yield from _result_faults(route, request, content)
    elif route == "/v1/accounts/":
        for decision in content["decisions"]:
            yield from decision_faults(decision)
    elif route == "/v1/decisions/":
        yield from decision_faults(content)
    elif route == _EXPLANATIONS and content["verdict"] != "equal":
        yield f"replay is {content['verdict']}: {content['differences']}"


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _score_faults(request: Request, content: Json, *, ids: bool = True) -> Iterator[str]:
    parameters = plain(decoded_request(request))
    accounts: dict[str, Json] = {item["account_id"]: item for item in parameters["accounts"]}
    decided = [decision["account_id"] for decision in content["decisions"]]
    failed = [error["account_id"] for error in content["errors"]]
    if sorted([*decided, *failed]) != sorted(accounts):
        yield f"not every account has one result: {decided} and {failed} of {list(accounts)}"
    if decided != [name for name in accounts if name in set(decided)]:
        yield f"decisions are out of order: {decided} of {list(accounts)}"
    for decision in content["decisions"]:
        if ids != ("decision_id" in decision):
            yield f"decision_id is {decision.get('decision_id')!r}"
        if parameters["explain"] != ("explain" in decision):
            yield f"explanation does not match the request: {parameters['explain']}"
        yield from decision_faults(decision, accounts.get(decision["account_id"]))
    for error in content["errors"]:
        if not error["detail"]:
            yield f"error without detail: {error}"


def _what_if_faults(request: Request, content: Json) -> Iterator[str]:
    parameters: WhatIfRequest = decoded_request(request)
    for side in ("before", "after"):
        for fault in _score_faults(request, content[side], ids=False):
            # Positions change: which marks belong to them is not known from the request.
            if not (side == "after" and fault.startswith("no mark")):
                yield fault
    if (parameters.target_headroom is not None) != ("remedies" in content):
        yield "remedies do not match the request"
    for remedy in content.get("remedies", ()):
        yield from _remedy_faults(remedy)
    largest = content.get("largest", ())
    if len(largest) != len(parameters.largest):
        yield f"{len(parameters.largest)} largest sizes requested, {len(largest)} returned"
    for item in largest:
        size, sign = item["quantity"], 1.0 if item["side"] == "buy" else -1.0
        if size is None and not item["unlimited"] and not item.get("detail"):
            yield f"largest size is null without a reason: {item}"
        if size is not None and size * sign < 0.0:
            yield f"largest size is on the other side: {item}"


def _remedy_faults(remedy: Json) -> Iterator[str]:
    if remedy["deposit"] < 0.0 or remedy["deposit_after_plan"] < 0.0:
        yield f"negative deposit: {remedy}"
    for cut in (*remedy["single"], *remedy["plan"]):
        if not 0.0 < cut["share"] <= 1.0 or not cut["cost"] >= 0.0:
            yield f"cut outside its bounds: {cut}"


def _result_faults(route: str, request: Request, content: Json) -> Iterator[str]:
    key, name, result = (
        ("bars", "symbol", BarResult) if route == BARS else ("quotes", "instrument", QuoteResult)
    )
    sent = json.loads(request.body())[key]
    results = content["results"]
    if [item[name] for item in results] != [item[name] for item in sent]:
        yield f"results do not follow the {key}"
    for item in results:
        if item["status"] not in _result_statuses(result):
            yield f"undocumented result: {item}"
        if item["status"] in ("rejected", "suspect", "late") and not item.get("detail"):
            yield f"result without a reason: {item}"
    if content["as_of"] is None:
        yield "as_of is null though there is a market"


def _result_statuses(result: Any) -> tuple[str, ...]:
    (field,) = (item for item in msgspec.structs.fields(result) if item.name == "status")
    return get_args(field.type)
