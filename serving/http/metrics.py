"""Metrics for Prometheus, in a registry of each application."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable

from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from decisions.messages import Decision
from monitoring.market_state.messages import BarResult
from monitoring.quotes.messages import QuoteResult

CONTENT_TYPE = "text/plain; version=0.0.4"
"""Media type of the exposition; the framework adds the character set."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STARTED = "margincast_started"


class Metrics:
    """What the endpoint counts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "margincast_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._latency = Histogram(
            "margincast_request_seconds",
            "Time until the answer began.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._decisions = Counter(
            "margincast_decisions",
            "Decisions recorded, by what bound them.",
            ("binding",),
            registry=registry,
        )
        self._degraded = Counter(
            "margincast_degraded_decisions",
            "Decisions recorded without the model.",
            registry=registry,
        )
        self._bars = Counter(
            "margincast_bars",
            "Bars posted, by what became of them.",
            ("status",),
            registry=registry,
        )
        self._quotes = Counter(
            "margincast_quotes",
            "Quotes posted, by what became of them.",
            ("status",),
            registry=registry,
        )
        self._model = Gauge(
            "margincast_model_info",
            "1 for the bundle that answers; no series without a model.",
            ("sha256",),
            registry=registry,
        )
        self._age = Gauge(
            "margincast_market_age_seconds",
            "Decision time minus the newest bar's close; NaN before the first bar.",
            registry=registry,
        )
        self._quote_age = Gauge(
            "margincast_quote_age_seconds",
            "Decision time minus the time of the newest quote; NaN before the first quote.",
            registry=registry,
        )
        self._usable = Gauge(
            "margincast_symbols_usable", "Symbols the model can judge now.", registry=registry
        )
        self._suspects = Gauge(
            "margincast_suspect_prices",
            "Bars and quoted prices that wait for confirmation now.",
            registry=registry,
        )

    def request(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Count an answered request."""
        self._requests.labels(route, method, str(status)).inc()
        if seconds is not None:
            self._latency.labels(route).observe(seconds)

    def decisions(self, decisions: Iterable[Decision]) -> None:
        """Count recorded decisions."""
        for decision in decisions:
            self._decisions.labels(decision.binding).inc()
            if decision.degraded is not None:
                self._degraded.inc()

    def bars(self, results: Iterable[BarResult]) -> None:
        """Count posted bars."""
        for status, count in Tally(result.status for result in results).items():
            self._bars.labels(status).inc(count)

    def quotes(self, results: Iterable[QuoteResult]) -> None:
        """Count posted quotes."""
        for status, count in Tally(result.status for result in results).items():
            self._quotes.labels(status).inc(count)

    def exposition(
        self,
        model: str | None,
        age_seconds: float,
        quote_age_seconds: float,
        usable: int,
        suspects: int,
    ) -> bytes:
        """Everything in Prometheus text form, with the state of this state."""
        self._model.clear()
        if model is not None:
            self._model.labels(model).set(1.0)
        self._age.set(age_seconds)
        self._quote_age.set(quote_age_seconds)
        self._usable.set(usable)
        self._suspects.set(suspects)
        return generate_latest(self._registry)


class RequestTimer(ASGIMiddleware):
    """Notes when a request reached its route."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Note the time and pass the request on."""
        scope["state"][_STARTED] = time.perf_counter()
        await next_app(scope, receive, send)


async def count_response(message: Message, scope: Scope) -> None:
    """Count an answer as it begins, those that never reached a route included."""
    if message["type"] != "http.response.start" or scope["type"] != ScopeType.HTTP:
        return
    state: State = scope["litestar_app"].state
    metrics: Metrics = state["metrics"]
    # The template, never the path: labels must not grow with what clients ask for.
    route = scope["path_template"] if scope.get("path_template") else "unmatched"
    started = scope["state"].get(_STARTED)
    seconds = None if started is None else time.perf_counter() - started
    metrics.request(route, scope["method"], message["status"], seconds)
