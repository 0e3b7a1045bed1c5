"""Around every request: its id, its line in the log, its count, its span."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from market.core.redaction import withholding
from serving.telemetry.exchange import CURRENT, HEADER, UNMATCHED, Exchange, exchange_of
from serving.telemetry.logs.access_log import AccessLog
from serving.telemetry.metrics.metrics import Metrics
from serving.telemetry.tracing.spans import Tracing

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Respond: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class RequestObserver:
    """Observes requests.

    Parameters
    ----------
    metrics:
        Counts them.
    access_log:
        Writes their lines, if any.
    tracing:
        Makes their spans, if any.
    """

    def __init__(
        self, metrics: Metrics, access_log: AccessLog | None, tracing: Tracing | None
    ) -> None:
        self._metrics, self._access_log, self._tracing = metrics, access_log, tracing

    async def observe(self, scope: Any, receive: Receive, send: Send, respond: Respond) -> None:
        """Have a request answered; the answer has its id as ``X-Request-Id``."""
        exchange = exchange_of(scope)
        CURRENT.set(exchange)  # each request has a context of its own

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                exchange.answered(message["status"])
                message["headers"] = [*message["headers"], (HEADER, exchange.id.encode())]
            await send(message)

        tracing = self._tracing
        if tracing is not None:
            exchange.span = tracing.start_request(scope["headers"], scope["method"])
        try:
            with withholding(exchange.account_ids):
                await respond(scope, receive, send_with_id)
        finally:
            self._finish(scope, exchange)

    def _finish(self, scope: Any, exchange: Exchange) -> None:
        method = scope["method"]
        # The template, never the path: labels must not grow with what clients ask for.
        exchange.route = exchange.route or scope.get("path_template") or UNMATCHED
        if exchange.status is not None and exchange.seconds is not None:
            self._metrics.request(exchange.route, method, exchange.status, exchange.seconds)
        if exchange.refusal:
            self._metrics.refused(exchange.refusal)
        if self._access_log is not None:
            self._access_log.note(exchange, method)
        if self._tracing is not None:
            self._tracing.end_request(exchange)
