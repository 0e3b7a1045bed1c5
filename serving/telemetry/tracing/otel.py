"""Spans by OpenTelemetry: request, and under it batch, decide, commit and encode.

Imported only where `[tracing]` is enabled; the extra ``otel`` installs what it needs.

References: W3C Trace Context; OpenTelemetry, "Semantic conventions for HTTP spans".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.telemetry.exchange import Exchange
from serving.telemetry.stages import StageTime

_CONTEXT_HEADERS = (b"traceparent", b"tracestate")
_SERVER_ERROR = 500


class OtelTracing:
    """Makes spans with a tracer of its own; nothing global is set.

    Parameters
    ----------
    processor:
        Takes the spans that ended.
    sample:
        Share of the traces that begin here and are kept.
    worker:
        Number of this worker, if there are several.
    """

    def __init__(
        self, processor: SpanProcessor, sample: float = 1.0, worker: int | None = None
    ) -> None:
        attributes: dict[str, str | int] = {
            "service.name": "margincast",
            "service.version": version("margincast"),
        }
        if worker is not None:
            attributes["service.instance.id"] = str(worker)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create(attributes),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("margincast", version("margincast"))
        self._propagator = TraceContextTextMapPropagator()

    def start_request(self, headers: Iterable[tuple[bytes, bytes]], method: str) -> Span:
        """Begin the span of a request, under the caller's where it sent a ``traceparent``."""
        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in headers
            if name in _CONTEXT_HEADERS
        }
        parent = self._propagator.extract(carrier) if carrier else None
        return self._tracer.start_span(
            method, parent, SpanKind.SERVER, {"http.request.method": method}
        )

    def end_request(self, exchange: Exchange) -> None:
        """End the span of a request."""
        span: Span = exchange.span
        span.update_name(f"{exchange.method} {exchange.route}")
        span.set_attribute("http.route", exchange.route)
        span.set_attribute("margincast.request_id", exchange.id)
        if exchange.decisions:
            span.set_attribute("margincast.decisions", exchange.decisions)
        if exchange.status is not None:
            span.set_attribute("http.response.status_code", exchange.status)
            if exchange.status >= _SERVER_ERROR:
                span.set_status(StatusCode.ERROR)
        span.end()

    def batch(self, spans: Sequence[Any], began: int, stages: Sequence[StageTime]) -> None:
        """Note a batch that just ended, as a child of its first call with links to the others."""
        # From the one clock, which is not set, to the other, which spans are dated by.
        offset = time.time_ns() - time.perf_counter_ns()
        now = time.time_ns()
        links = [Link(span.get_span_context()) for span in spans[1:]]
        batch = self._tracer.start_span(
            "batch",
            set_span_in_context(spans[0]),
            attributes={"margincast.calls": len(spans)},
            links=links,
            start_time=began + offset,
        )
        under = set_span_in_context(batch)
        for stage, start, end in stages:
            span = self._tracer.start_span(stage, under, start_time=start + offset)
            span.end(end + offset)
        batch.end(now)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


def otlp_tracing(sample: float, worker: int | None) -> OtelTracing:
    """Spans that go out by OTLP over HTTP, to where the environment says.

    ``OTEL_EXPORTER_OTLP_ENDPOINT`` and the other variables of OpenTelemetry apply.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return OtelTracing(BatchSpanProcessor(OTLPSpanExporter()), sample, worker)
