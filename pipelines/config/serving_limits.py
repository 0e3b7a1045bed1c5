"""Limits of the section ``[serving]``: connections, calls and the stop."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipelines.config.fields import Section

Seconds = Annotated[float, Field(strict=True, gt=0.0, le=86_400.0, allow_inf_nan=False)]
Pause = Annotated[float, Field(strict=True, ge=0.0, le=86_400.0, allow_inf_nan=False)]


class ServingLimits(Section):
    """Part of ``[serving]``: how many connections and calls it takes, and how long they may last.

    As `serving.http.connections.ConnectionLimits` and `serving.settings.ServingSettings` describe
    them; 0 stands for their defaults.
    """

    max_connections: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """Connections open at the same time; 0: as the descriptors allow, at most 4096."""
    max_pending_bytes: Annotated[int, Field(strict=True, ge=0, le=2**40)] = 0
    """Total of bodies that are received and not answered yet; 0: 128 MiB."""
    head_seconds: Seconds = 10.0
    """Longest time for the head of a request, then 408."""
    body_seconds: Seconds = 30.0
    """Longest time for its body, then 408."""
    idle_seconds: Seconds = 75.0
    """A connection without a request is closed after this time."""
    write_seconds: Seconds = 60.0
    """A client that does not read its answer is disconnected after this time."""
    call_seconds: Seconds = 30.0
    """A call that still waits after this time is answered 503 and not decided."""
    what_if_calls: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """What-ifs that are computed concurrently."""
    what_if_accounts: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """Most accounts of one what-if; with explain they count twice; 0: 20,000."""
    drain_seconds: Pause = 0.0
    """After SIGTERM readiness is 503 and connections are still accepted for this time."""
    stop_seconds: Seconds = 60.0
    """After SIGTERM unanswered requests are cut off after this time and the process ends."""

    @field_validator("stop_seconds")
    @classmethod
    def _after_draining(cls, seconds: float, info: ValidationInfo) -> float:
        drain = info.data.get("drain_seconds", 0.0)
        if seconds <= drain:
            more = {"drain": f"{drain:g}"}
            raise PydanticCustomError("invalid", "more than serving.drain_seconds ({drain})", more)
        return seconds
