"""The routes of the framework, from which the OpenAPI document is generated.

Slow work, including the decoding of bodies, runs in a lane (`serving.admission`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIType, Parameter, Schema
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.status_codes import HTTP_200_OK

from decisions.batch import EncodedResponse
from decisions.messages import ScoreRequest, ScoreResponse
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from decisions.what_if.what_if_analysis import check_size
from ledger.canonical import sha256_hex
from monitoring.market_state.messages import BarsRequest, BarsResponse
from monitoring.quotes.messages import QuotesRequest, QuotesResponse
from monitoring.shared_market import PostOrigin
from serving.admission.deadline import HEADER, call_seconds
from serving.admission.lane import Lane
from serving.admission.lanes import Lanes
from serving.http.auth import AccessScope, guard_metrics, require_also, requires
from serving.http.documentation.route_docs import (
    POST_PROBLEMS,
    READ_PROBLEMS,
    DocumentedOperation,
    needs,
    problem_response,
    problems,
)
from serving.http.problems import json_response, kept_problem
from serving.http.score_route import PATH, ScoreRoute, ScoreRouting
from serving.http.strict_body import Encoded, StrictBody
from serving.recorded_decisions import MAX_BEFORE
from serving.schemas.read_messages import (
    Alive,
    DecisionExplanation,
    DecisionPage,
    ModelInfo,
    Readiness,
    RecordedDecision,
    RuleSetInfo,
)
from serving.service import Service
from serving.settings import ServingSettings
from serving.telemetry.exchange import withhold_accounts
from serving.telemetry.metrics.metrics import CONTENT_TYPE, Metrics

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Same key and body: the same answer. Other body: 409.",
        required=False,
    ),
]


RequestTimeout = Annotated[
    str | None,
    HeaderParameter(
        name=HEADER,
        description="Seconds to wait; a call that still waits then is answered 503 and not made.",
        required=False,
    ),
]


@dataclass
class _OpenOperation(DocumentedOperation):
    """A route that needs no key; an empty list at the handler would mean the document's default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.security = []


def _page_operation(max_page: int) -> type[DocumentedOperation]:
    """The route of an account's decisions, with the bounds of its page."""

    @dataclass
    class PageOperation(DocumentedOperation):
        def __post_init__(self) -> None:
            super().__post_init__()
            bounds = {"limit": (1, max_page), "before": (1, MAX_BEFORE)}
            for parameter in self.parameters or ():
                if isinstance(parameter, Parameter) and parameter.name in bounds:
                    least, most = bounds[parameter.name]
                    parameter.schema = Schema(
                        one_of=[
                            Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most),
                            Schema(type=OpenAPIType.NULL),
                        ]
                    )

    return PageOperation


def _readiness() -> ResponseSpec:
    return ResponseSpec(Readiness, description="No decision can be made or recorded now.")


def _post(path: str, body: type[StrictBody[Any]], scope: AccessScope, *statuses: int) -> post:
    """Decorator of a route that takes a body; `statuses` are its problems besides the usual."""
    return post(
        path,
        dto=body,
        return_dto=None,
        guards=[requires(scope)],
        security=needs(scope),
        status_code=HTTP_200_OK,
        responses=problems(*POST_PROBLEMS, *statuses),
        operation_class=DocumentedOperation,
    )


def read_route(path: str, *statuses: int, filters: Callable[..., object] | None = None) -> get:
    """Decorator of a route that reads.

    Parameters
    ----------
    path:
        Its path.
    statuses:
        Its problems besides the usual.
    filters:
        Makes its dependency ``filters`` of the query.
    """
    given = None
    if filters is not None:
        given = {"filters": Provide(filters, sync_to_thread=False)}
    return get(
        path,
        dependencies=given,
        guards=[requires("read")],
        security=needs("read"),
        responses=problems(*READ_PROBLEMS, *statuses),
        operation_class=DocumentedOperation,
    )


async def look_up(lane: Lane, service: Service, find: Callable[[], object]) -> Response[Any]:
    """What `find` returns, found and encoded in a lane."""

    def encoded() -> bytes:
        return msgspec.json.encode(find())

    return json_response(await lane.run(encoded, service.settings.call_seconds))


def score_handler(route: ScoreRoute) -> HTTPRouteHandler:
    """The score route in the framework's routing and in the OpenAPI document."""

    @post(
        PATH,
        dto=StrictBody[ScoreRequest],
        return_dto=None,
        status_code=HTTP_200_OK,
        middleware=[ScoreRouting(route)],
        security=needs("score"),
        responses=problems(*POST_PROBLEMS, 409),
        operation_class=DocumentedOperation,
    )
    async def score(
        data: JSONBody[Encoded[ScoreRequest]],
        idempotency_key: IdempotencyKey = None,
        request_timeout: RequestTimeout = None,
    ) -> Response[ScoreResponse]:
        """Decide on accounts; every decision is on record when the answer leaves."""
        raise RuntimeError(f"a request to {PATH} passed by its route")  # `ScoreRouting` answered

    return score


@_post("/v1/what-if", StrictBody[WhatIfRequest], "score")
async def what_if(
    data: JSONBody[Encoded[WhatIfRequest]],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    request_timeout: RequestTimeout = None,
) -> Response[WhatIfResponse]:
    """Decide on accounts before and after changes; nothing is recorded.

    Of the accounts as they stand it says on request what would bring each to `target_headroom`
    (`remedies`: a deposit, single cuts, a plan of cuts, the cheapest first), what each position
    adds to the requirement (`marginal`), and the largest size of a trade that fits (`largest`).
    """
    settings = service.settings

    def answer() -> bytes:
        request = data.decode()
        withhold_accounts(lambda: (account.account_id for account in request.accounts))
        check_size(request, settings.what_if_accounts)
        return msgspec.json.encode(service.what_if(request))

    seconds = call_seconds(request_timeout, settings.call_seconds)
    return json_response(await lanes.what_if.run(answer, seconds))


@_post("/v1/market/bars", StrictBody[BarsRequest], "market", 409)
async def market_bars(
    data: JSONBody[Encoded[BarsRequest]],
    request: Request[str, Any, State],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    idempotency_key: IdempotencyKey = None,
) -> Response[BarsResponse]:
    """Post closed bars; what is new is on record when the answer leaves.

    A step counts once bars of more than a quorum of the live symbols are there, on the wall clock
    also after a grace, or when the request says `final`; until then decisions do not see it. It
    takes bars that it lacks until a request says `final`. A bar for a final step, or another one
    for a bar of an older step, is `late`; with `correct`, which needs the scope `admin`, it counts
    from the next step on.
    """

    def post_bars() -> EncodedResponse:
        bars = data.decode()
        if bars.correct:
            require_also(request, "admin")
        return service.post_bars(bars, _origin(request, data.body, idempotency_key))

    return _posted(await lanes.market.run(post_bars, service.settings.call_seconds))


@_post("/v1/market/quotes", StrictBody[QuotesRequest], "market", 409)
async def market_quotes(
    data: JSONBody[Encoded[QuotesRequest]],
    request: Request[str, Any, State],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    idempotency_key: IdempotencyKey = None,
) -> Response[QuotesResponse]:
    """Post quotes; what is new is on record when the answer leaves.

    A quote gives some fields of an option (`BTC-27MAR26-60000-C`), an expiry (`BTC-27MAR26`), a
    perpetual (`BTCUSDT-PERP`), a spot symbol (`BTCUSDT`) or a cash asset of the rule set (`USDT`);
    fields that it leaves out stay as they are. Each field goes by its own time: the newer one
    counts, an older one is recorded as late. Funding, open interest, implied volatility and the
    basis of marks are exogenous series of the bar that closes next.
    """

    def post_quotes() -> EncodedResponse:
        origin = _origin(request, data.body, idempotency_key)
        return service.post_quotes(data.decode(), origin)

    return _posted(await lanes.market.run(post_quotes, service.settings.call_seconds))


def _origin(request: Request[str, Any, State], body: bytes, key: str | None) -> PostOrigin:
    return PostOrigin(request.user, key, sha256_hex(body))


def _posted(posted: EncodedResponse) -> Response[Any]:
    headers = {"Idempotent-Replayed": "true"} if posted.replayed else {}
    if posted.status != HTTP_200_OK:
        return kept_problem(posted.status, posted.body, headers)
    return json_response(posted.body, headers)


@read_route("/v1/decisions/{decision_id:str}", 404)
async def decision(
    decision_id: FromPath[str],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[RecordedDecision]:
    """One recorded decision."""
    return await look_up(lanes.read, service, lambda: service.decisions.get(decision_id))


@get(
    "/v1/decisions/{decision_id:str}/explanation",
    guards=[requires("read")],
    security=needs("read"),
    responses=problems(*READ_PROBLEMS, 404)
    | {409: problem_response("The bundle or another input of the decision is not available.")},
    operation_class=DocumentedOperation,
)
async def decision_explanation(
    decision_id: FromPath[str],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
) -> Response[DecisionExplanation]:
    """One recorded decision, made again from its market, rules and model, with all its reasons.

    The answer says whether the decision came out as it was recorded.
    """
    return await look_up(lanes.explain, service, lambda: service.decisions.explained(decision_id))


@read_route("/v1/accounts/{account_id:str}/decisions", 422)
async def account_decisions(
    account_id: FromPath[str],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    limit: FromQuery[int | None] = None,
    before: FromQuery[int | None] = None,
) -> Response[DecisionPage]:
    """Decisions of an account, the newest first; `before` is `next_before` of the page before.

    The id is URL-encoded and may hold slashes, encoded or not.
    """
    account = unquote(account_id)
    withhold_accounts(lambda: (account,))
    return await look_up(
        lanes.read, service, lambda: service.decisions.page(account, limit, before)
    )


@get(
    "/v1/model",
    guards=[requires("read")],
    security=needs("read"),
    responses=problems(*READ_PROBLEMS, 404),
    operation_class=DocumentedOperation,
)
async def model(
    service: NamedDependency[Service], lanes: NamedDependency[Lanes]
) -> Response[ModelInfo]:
    """The model that answers."""
    return await look_up(lanes.read, service, service.model)


@get(
    "/v1/ruleset",
    guards=[requires("read")],
    security=needs("read"),
    sync_to_thread=False,
    responses=problems(*READ_PROBLEMS, 404, 422),
    operation_class=DocumentedOperation,
)
def rules_in_force(
    service: NamedDependency[Service], as_of: FromQuery[str | None] = None
) -> Response[RuleSetInfo]:
    """The version of the rules in force at `as_of`, an ISO 8601 time, or now."""
    return json_response(msgspec.json.encode(service.ruleset(as_of)))


@get("/health/live", operation_class=_OpenOperation)
async def health_live() -> Response[Alive]:
    """Whether the process answers."""
    raise RuntimeError("a request for health passed by its route")  # `HealthRoutes` answered


@get("/health/ready", responses={503: _readiness()}, operation_class=_OpenOperation)
async def health_ready() -> Response[Readiness]:
    """200 while a rule floor can be computed and a decision recorded, else 503."""
    raise RuntimeError("a request for health passed by its route")  # `HealthRoutes` answered


@get(
    "/metrics",
    guards=[guard_metrics],
    media_type=MediaType.TEXT,
    responses=problems(401, 403, 429),
    operation_class=DocumentedOperation,
)
async def prometheus(request: Request[Any, Any, State]) -> Response[bytes]:
    """Metrics for Prometheus; with `metrics_auth` they need a key with the scope `read`."""
    metrics: Metrics = request.app.state["metrics"]
    loop = asyncio.get_running_loop()
    shown = await loop.run_in_executor(request.app.state["reader"], metrics.exposition)
    return Response(shown, media_type=CONTENT_TYPE)


def handlers(settings: ServingSettings) -> list[HTTPRouteHandler]:
    """All routes except that of scores, documented according to the settings."""
    page, metrics = copy(account_decisions), copy(prometheus)
    page.operation_class = _page_operation(settings.max_page)
    if not settings.metrics_auth:
        metrics.operation_class = _OpenOperation
    return [
        what_if,
        market_bars,
        market_quotes,
        decision,
        decision_explanation,
        page,
        model,
        rules_in_force,
        health_live,
        health_ready,
        metrics,
    ]
