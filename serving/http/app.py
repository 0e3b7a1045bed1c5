"""The HTTP application: routes and what runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.types import Receive, Scope, Send

from ledger.keys import Keys
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from monitoring.answer_retention import AnswerRetention
from monitoring.market_state.live_market import LiveMarket
from serving.account_listing import AccountListing
from serving.admission.lanes import Lanes
from serving.book_updates import BookUpdates
from serving.console.assets import PREFIX
from serving.console.console import Console
from serving.console.page_route import unknown_page
from serving.console.routes import console_routes
from serving.console.session import with_session
from serving.console.views.verification import LedgerVerifier
from serving.enforcement import (
    CallListing,
    CommandPosts,
    ControlListing,
    InstructionListing,
)
from serving.http.account_paths import one_segment
from serving.http.account_routes import ACCOUNT_ROUTES
from serving.http.auth import Access
from serving.http.documentation.docs_page import DocsPage
from serving.http.documentation.route_docs import SECURITY, TAGS, operation_id
from serving.http.documentation.struct_schema import HistorySchema, StructSchema
from serving.http.enforcement.call_routes import CALL_ROUTES
from serving.http.enforcement.control_routes import CONTROL_ROUTES
from serving.http.enforcement.instruction_routes import INSTRUCTION_ROUTES
from serving.http.handlers import handlers, score_handler
from serving.http.health.routes import HealthRoutes
from serving.http.problems import EXCEPTION_HANDLERS
from serving.http.score_route import ScoreRoute
from serving.http.security.json_web_tokens import JsonWebTokens
from serving.http.security.request_checks import RequestChecks
from serving.http.security.response_headers import uncached_unless_said
from serving.score_queue import ScoreQueue
from serving.service import Service
from serving.settings import ServingSettings
from serving.telemetry.exchange import CURRENT
from serving.telemetry.metrics.delivery_facts import DeliveryCollector
from serving.telemetry.metrics.evaluation_facts import EvaluationCollector
from serving.telemetry.metrics.facts import FactsCollector
from serving.telemetry.metrics.metrics import Metrics
from serving.telemetry.metrics.watch import ProcessWatch
from serving.telemetry.observer import RequestObserver
from serving.telemetry.telemetry import Telemetry

__all__ = ["ServingSettings", "create_app"]


def create_app(
    settings: ServingSettings,
    ledger: Ledger,
    rules: RuleHistory,
    live: LiveMarket,
    telemetry: Telemetry | None = None,
) -> Litestar:
    """The application, ready to answer; recorded bars newer than `live`, and recorded quotes, are
    applied first, a score that is not recorded loads the kernels, and the live book is read.

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
    telemetry:
        Its logs, metrics and traces; None: metrics alone.

    Raises
    ------
    LedgerError
        The ledger cannot be read.
    """
    telemetry = telemetry or Telemetry()
    metrics = Metrics(telemetry.folder)
    metrics.watch_connections(telemetry.connections)
    if telemetry.writer is not None:
        telemetry.writer.on_drop(metrics.dropped_lines)
    service = Service(settings, ledger, rules, live, metrics)
    service.recover()
    service.warm_up()
    service.read_book()
    tokens = None if settings.jwt is None else JsonWebTokens(settings.jwt)
    access = Access(settings, Keys(ledger), tokens)

    book_updates = BookUpdates(service, metrics)
    control_listing = ControlListing(ledger, settings.max_page)
    call_listing = CallListing(ledger, control_listing, settings.max_page)
    instruction_listing = InstructionListing(ledger, settings.max_page)
    command_posts = CommandPosts(service, call_listing, instruction_listing, control_listing)
    account_listing = AccountListing(service, service.book, call_listing)

    queue = ScoreQueue(service.score_many, metrics, telemetry.tracing)
    lanes = Lanes(settings.what_if_calls)
    route = ScoreRoute(queue, lanes, access, settings)
    health = HealthRoutes(lambda: service.readiness(queue.health_error()))

    console = Console(
        *(service, lanes, account_listing, call_listing, instruction_listing, control_listing),
        LedgerVerifier(ledger, settings.answers_days),
    )
    watch = ProcessWatch(service, metrics, ledger, telemetry.folders(settings.bundles))
    metrics.register(FactsCollector(service.facts.read, lambda: watch.stored))
    metrics.register(DeliveryCollector(lambda: watch.stored.outbox))
    if settings.monitoring:
        metrics.register(EvaluationCollector(service.book, service.book_follower))
    # Metrics are read in a thread of their own: they wait for no scoring and no look-up.
    reader = ThreadPoolExecutor(1, "metrics")

    @asynccontextmanager
    async def follow_market(_: Litestar) -> AsyncGenerator[None]:
        book = service.book_follower if settings.monitoring else nullcontext()
        retention = AnswerRetention(ledger, settings.answers_days)
        with service.follower, book, watch, reader, retention:
            yield

    async def close() -> None:
        await asyncio.to_thread(queue.close)
        await asyncio.to_thread(lanes.close)
        await asyncio.to_thread(service.shadow.close)
        access.close()
        if telemetry.tracing is not None:
            await asyncio.to_thread(telemetry.tracing.close)
        if telemetry.writer is not None:
            await asyncio.to_thread(telemetry.writer.flush)

    return _Application(
        RequestChecks(settings),
        health,
        route,
        RequestObserver(metrics, telemetry.access_log, telemetry.tracing),
        [
            score_handler(route),
            *handlers(settings),
            *ACCOUNT_ROUTES,
            *CALL_ROUTES,
            *INSTRUCTION_ROUTES,
            *CONTROL_ROUTES,
            console_routes(console),
        ],
        dependencies={
            "service": _provide(service),
            "lanes": _provide(lanes),
            "book_updates": _provide(book_updates),
            "account_listing": _provide(account_listing),
            "call_listing": _provide(call_listing),
            "instruction_listing": _provide(instruction_listing),
            "control_listing": _provide(control_listing),
            "command_posts": _provide(command_posts),
        },
        exception_handlers={
            **EXCEPTION_HANDLERS,
            NotFoundException: lambda *failed: unknown_page(console, *failed),
        },
        request_max_body_size=settings.max_body_bytes,
        on_startup=[service.shadow.start],
        on_shutdown=[close],
        state=State({"access": access, "metrics": metrics, "reader": reader}),
        lifespan=[follow_market],
        plugins=[HistorySchema(), StructSchema()],
        logging_config=None,
        openapi_config=_openapi(),
    )


def _provide(value: object) -> Provide:
    """Gives routes the one value of its name."""
    return Provide(lambda: value, sync_to_thread=False)


class _Application(Litestar):
    """Refuses requests of foreign pages, and answers for health and plain score calls outside the
    framework: see `RequestChecks`, `HealthRoutes` and `ScoreRoute`.

    Takes an account id in a path as one segment, whatever it holds: see `one_segment`.
    """

    def __init__(
        self,
        checks: RequestChecks,
        health: HealthRoutes,
        route: ScoreRoute,
        observer: RequestObserver,
        *args: Any,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._checks = checks
        self._health = health
        self._route = route
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        if scope["type"] == ScopeType.HTTP:
            respond = self._respond_head if scope["method"] == "HEAD" else self._respond
            await self._observer.observe(scope, receive, send, respond)
        else:
            await super().__call__(scope, receive, send)

    async def _respond_head(self, scope: Any, receive: Receive, send: Send) -> None:
        """As for GET; the server leaves the body out."""
        as_get = {**scope, "method": "GET"}
        await self._respond(as_get, receive, send)
        scope.update({name: as_get[name] for name in ("path_template",) if name in as_get})

    async def _respond(self, scope: Any, receive: Receive, send: Send) -> None:
        with_session(scope)
        send = self._checks.allowing(scope, send)
        if scope["path"].startswith(PREFIX):
            send = uncached_unless_said(send)
        refusal = self._checks.refusal(scope)
        if refusal is not None:
            await refusal.send(send)
        elif self._health.takes(scope):
            exchange = CURRENT.get()
            if exchange is not None:
                exchange.route = scope["path"]
            await (await self._health.answer(scope)).send(send)
        elif self._route.takes(scope):
            scored = await self._route.answer(scope, receive)
            if scored is not None:
                await scored.send(send)
        else:
            scope["path"] = one_segment(scope["path"], scope.get("raw_path"), scope["method"])
            await super().__call__(scope, receive, send)


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
        operation_id_creator=operation_id,
        tags=[Tag(name, description) for name, description in TAGS.items()],
        render_plugins=[DocsPage(path="/")],
        components=Components(
            security_schemes={
                SECURITY: SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API key (`margincast keys add` makes one) or a JSON web token.",
                )
            }
        ),
        security=[{SECURITY: []}],
    )
