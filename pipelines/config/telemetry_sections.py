"""The sections of telemetry: logs and traces.

As in `pipelines.config.sections`, a section is a frozen model that refuses invalid values.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.config.fields import Section


class LoggingConfig(Section):
    """Lines on stderr, of the endpoint and of every other verb."""

    format: Literal["text", "json"] = "text"
    """Lines of text, or one JSON object a line."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written; at info the endpoint writes a line for every request."""


class TracingConfig(Section):
    """Spans of the endpoint by OpenTelemetry, which the extra `otel` installs.

    Environment variables of OpenTelemetry, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``, define the
    receiver.
    """

    enabled: bool = False
    """Send spans by OpenTelemetry; needs the extra otel."""
    sample: Annotated[float, Field(strict=True, ge=0.0, le=1.0)] = 1.0
    """Share of new traces that are kept; a request with a traceparent follows the decision of its
    caller."""
