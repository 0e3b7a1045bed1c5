"""Limits of the section ``[serving]``: connections, calls and the stop."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipelines.config.fields import Section

Seconds = Annotated[float, Field(strict=True, gt=0.0, le=86_400.0, allow_inf_nan=False)]
Pause = Annotated[float, Field(strict=True, ge=0.0, le=86_400.0, allow_inf_nan=False)]


class ServingLimits(Section):
    """How many connections and calls the endpoint takes, and how long they may last.

    As `serving.http.connections.ConnectionLimits` and `serving.settings.ServingSettings` describe
    them; 0 stands for their defaults.
    """

    max_connections: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    max_pending_bytes: Annotated[int, Field(strict=True, ge=0, le=2**40)] = 0
    head_seconds: Seconds = 10.0
    body_seconds: Seconds = 30.0
    idle_seconds: Seconds = 75.0
    write_seconds: Seconds = 60.0
    call_seconds: Seconds = 30.0
    what_if_calls: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    what_if_accounts: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    drain_seconds: Pause = 0.0
    stop_seconds: Seconds = 60.0

    @field_validator("stop_seconds")
    @classmethod
    def _after_draining(cls, seconds: float, info: ValidationInfo) -> float:
        drain = info.data.get("drain_seconds", 0.0)
        if seconds <= drain:
            more = {"drain": f"{drain:g}"}
            raise PydanticCustomError("invalid", "more than serving.drain_seconds ({drain})", more)
        return seconds
