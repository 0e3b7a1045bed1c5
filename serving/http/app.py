"""The HTTP surface: routes, and nothing that is not about HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import ScopeType
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, Operation, SecurityScheme
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, RawBody
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from litestar.types import Receive, Scope, Send

from decisions.messages import ScoreRequest, ScoreResponse
from decisions.what_if.messages import WhatIfRequest, WhatIfResponse
from ledger.canonical import sha256_hex
from ledger.keys import Keys
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.messages import BarsRequest, BarsResponse
from monitoring.quotes.messages import QuotesRequest, QuotesResponse
from serving.http.account_paths import one_segment
from serving.http.auth import Access, require, requires
from serving.http.docs_page import DocsPage
from serving.http.metrics import CONTENT_TYPE, Metrics, RequestTimer, count_response
from serving.http.problems import EXCEPTION_HANDLERS, PROBLEM_JSON, Problem, json_response
from serving.http.strict_body import StrictBody
from serving.schemas.read_messages import (
    Alive,
    DecisionPage,
    ModelInfo,
    Readiness,
    RecordedDecision,
    RuleSetInfo,
)
from serving.service import Service
from serving.settings import ServingSettings

__all__ = ["ServingSettings", "create_app"]

_KEY = "key"
_READ_PROBLEMS = (401, 403, 503)
_PROBLEMS = {
    401: "No valid key.",
    403: "The key lacks the scope.",
    404: "There is no such thing.",
    409: "The Idempotency-Key came with another body.",
    413: "The body is too long.",
    422: "The request is invalid.",
    503: "The ledger cannot be reached.",
}

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Same key and body: the same answer. Other body: 409.",
        required=False,
    ),
]


def create_app(
    settings: ServingSettings, ledger: Ledger, rules: RuleHistory, live: LiveMarket
) -> Litestar:
    """The application, ready to answer; recorded bars newer than `live`, and recorded quotes, are
    applied first.

    Parameters
    ----------
    settings:
        Limits, clock and access.
    ledger:
        Where decisions, bars and quotes are recorded and keys are kept; stays the caller's to
        close.
    rules:
        The versions of the rules; every decision follows the one in force at its time.
    live:
        The market.

    Raises
    ------
    LedgerError
        The ledger cannot be read.
    """
    metrics = Metrics()
    service = Service(settings, ledger, rules, live, metrics)
    service.recover()
    access = Access(Keys(ledger) if settings.auth == "keys" else None)

    def provide_service() -> Service:
        return service

    return _Application(
        [
            score,
            what_if,
            market_bars,
            market_quotes,
            decision,
            account_decisions,
            model,
            rules_in_force,
            health_live,
            health_ready,
            prometheus,
        ],
        dependencies={"service": Provide(provide_service, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        middleware=[RequestTimer()],
        before_send=[count_response],
        state=State({"access": access, "metrics": metrics}),
        logging_config=None,
        openapi_config=_openapi(),
    )


class _Application(Litestar):
    """Takes an account id in a path as one segment, whatever it holds: see `one_segment`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        if scope["type"] == ScopeType.HTTP:
            scope["path"] = one_segment(scope["path"], scope.get("raw_path"))
        await super().__call__(scope, receive, send)


@dataclass
class _Operation(Operation):
    """A route in the OpenAPI document, without the 400 that the framework adds: it is 422 here."""

    def __post_init__(self) -> None:
        if self.responses is not None:
            self.responses.pop("400", None)


def _problems(*statuses: int) -> dict[int, ResponseSpec]:
    return {
        status: ResponseSpec(
            Problem, description=_PROBLEMS[status], media_type=PROBLEM_JSON, generate_examples=False
        )
        for status in statuses
    }


@post(
    "/v1/score",
    dto=StrictBody[ScoreRequest],
    return_dto=None,
    guards=[requires("score")],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_problems(401, 403, 409, 413, 422, 503),
    operation_class=_Operation,
)
def score(
    data: JSONBody[ScoreRequest],
    body: RawBody,
    request: Request[str, Any, State],
    service: NamedDependency[Service],
    idempotency_key: IdempotencyKey = None,
) -> Response[ScoreResponse]:
    """Decide on accounts; every decision is on record when the answer leaves."""
    answer = service.score(data, request.user, idempotency_key, sha256_hex(body))
    return json_response(answer.body, {"Idempotent-Replayed": "true"} if answer.replayed else None)


@post(
    "/v1/what-if",
    dto=StrictBody[WhatIfRequest],
    return_dto=None,
    guards=[requires("score")],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_problems(401, 403, 413, 422, 503),
    operation_class=_Operation,
)
def what_if(
    data: JSONBody[WhatIfRequest], service: NamedDependency[Service]
) -> Response[WhatIfResponse]:
    """Decide on accounts before and after changes; nothing is recorded.

    Of the accounts as they stand it says on request what would bring each to `target_headroom`
    (`remedies`: a deposit, single cuts, a plan of cuts, the cheapest first), what each position
    adds to the requirement (`marginal`), and the largest size of a trade that fits (`largest`).
    """
    return json_response(msgspec.json.encode(service.what_if(data)))


@post(
    "/v1/market/bars",
    dto=StrictBody[BarsRequest],
    return_dto=None,
    guards=[requires("market")],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_problems(401, 403, 413, 422, 503),
    operation_class=_Operation,
)
def market_bars(
    data: JSONBody[BarsRequest],
    request: Request[str, Any, State],
    service: NamedDependency[Service],
) -> Response[BarsResponse]:
    """Post closed bars; what is new is on record when the answer leaves.

    A step counts once bars of more than a quorum of the live symbols are there, on the wall clock
    also after a grace, or when the request says `final`; until then decisions do not see it. It
    takes bars that it lacks until a request says `final`. A bar for a final step, or another one
    for a bar of an older step, is `late`; with `correct`, which needs the scope `admin`, it counts
    from the next step on.
    """
    if data.correct:
        require(request, "admin")
    return json_response(msgspec.json.encode(service.post_bars(data, request.user)))


@post(
    "/v1/market/quotes",
    dto=StrictBody[QuotesRequest],
    return_dto=None,
    guards=[requires("market")],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_problems(401, 403, 413, 422, 503),
    operation_class=_Operation,
)
def market_quotes(
    data: JSONBody[QuotesRequest], service: NamedDependency[Service]
) -> Response[QuotesResponse]:
    """Post quotes; what is new is on record when the answer leaves.

    A quote gives some fields of an option (`BTC-27MAR26-60000-C`), an expiry (`BTC-27MAR26`), a
    perpetual (`BTCUSDT-PERP`), a spot symbol (`BTCUSDT`) or a cash asset of the rule set (`USDT`);
    fields that it leaves out stay as they are. Each field goes by its own time: the newer one
    counts, an older one is recorded as late. Funding, open interest, implied volatility and the
    basis of marks are exogenous series of the bar that closes next.
    """
    return json_response(msgspec.json.encode(service.post_quotes(data)))


@get(
    "/v1/decisions/{decision_id:str}",
    guards=[requires("read")],
    sync_to_thread=True,
    responses=_problems(*_READ_PROBLEMS, 404),
    operation_class=_Operation,
)
def decision(
    decision_id: FromPath[str], service: NamedDependency[Service]
) -> Response[RecordedDecision]:
    """One recorded decision."""
    return json_response(msgspec.json.encode(service.decision(decision_id)))


@get(
    "/v1/accounts/{account_id:str}/decisions",
    guards=[requires("read")],
    sync_to_thread=True,
    responses=_problems(*_READ_PROBLEMS, 422),
    operation_class=_Operation,
)
def account_decisions(
    account_id: FromPath[str],
    service: NamedDependency[Service],
    limit: FromQuery[int | None] = None,
    before: FromQuery[int | None] = None,
) -> Response[DecisionPage]:
    """Decisions of an account, the newest first; `before` is `next_before` of the page before.

    The id is URL-encoded and may hold slashes, encoded or not.
    """
    page = service.decisions_of(unquote(account_id), limit, before)
    return json_response(msgspec.json.encode(page))


@get(
    "/v1/model",
    guards=[requires("read")],
    sync_to_thread=True,
    responses=_problems(*_READ_PROBLEMS, 404),
)
def model(service: NamedDependency[Service]) -> Response[ModelInfo]:
    """The model that answers."""
    return json_response(msgspec.json.encode(service.model()))


@get(
    "/v1/ruleset",
    guards=[requires("read")],
    sync_to_thread=False,
    responses=_problems(*_READ_PROBLEMS, 404, 422),
    operation_class=_Operation,
)
def rules_in_force(
    service: NamedDependency[Service], as_of: FromQuery[str | None] = None
) -> Response[RuleSetInfo]:
    """The version of the rules in force at `as_of`, an ISO 8601 time, or now."""
    return json_response(msgspec.json.encode(service.ruleset(as_of)))


@get("/health/live", sync_to_thread=False, security=[])
def health_live() -> Response[Alive]:
    """Whether the process answers."""
    return json_response(msgspec.json.encode(Alive("live")))


@get("/health/ready", sync_to_thread=True, security=[])
def health_ready(service: NamedDependency[Service]) -> Response[Readiness]:
    """200 while a rule floor can be computed and a decision recorded, else 503."""
    readiness = service.readiness()
    unavailable = readiness.status == "unavailable"
    response = json_response(msgspec.json.encode(readiness))
    response.status_code = HTTP_503_SERVICE_UNAVAILABLE if unavailable else HTTP_200_OK
    return response


@get("/metrics", sync_to_thread=True, security=[], media_type=MediaType.TEXT)
def prometheus(service: NamedDependency[Service]) -> Response[bytes]:
    """Metrics for Prometheus."""
    return Response(service.exposition(), media_type=CONTENT_TYPE)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Margincast",
        version=version("margincast"),
        description=(
            "Forecasts margin calls and proposes add-ons within deterministic rules. Money is in "
            "the settlement currency, times are ISO 8601 in UTC."
        ),
        path="/docs",
        use_handler_docstrings=True,
        render_plugins=[DocsPage(path="/")],
        components=Components(
            security_schemes={_KEY: SecurityScheme(type="http", scheme="bearer")}
        ),
        security=[{_KEY: []}],
    )
