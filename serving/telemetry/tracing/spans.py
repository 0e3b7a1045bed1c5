"""Traces: the interface between the endpoint and an exporter of spans; by default there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from serving.telemetry.exchange import Exchange
from serving.telemetry.stages import StageTime


class Tracing(Protocol):
    """Makes spans. A span is whatever `start_request` returns."""

    def start_request(self, headers: Iterable[tuple[bytes, bytes]], method: str) -> Any:
        """Begin the span of a request, under the caller's where it sent a ``traceparent``."""

    def end_request(self, exchange: Exchange) -> None:
        """End the span of a request."""

    def batch(self, spans: Sequence[Any], began: int, stages: Sequence[StageTime]) -> None:
        """Note a batch that just ended: the spans of its calls, when it began by
        `time.perf_counter_ns`, and its stages."""

    def close(self) -> None:
        """Send what was not sent yet."""
