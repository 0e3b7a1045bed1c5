"""Messages of ``POST /v1/market/bars``; `market.sources.http` has one bar."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from market.sources.http import BarIn

MAX_BARS = 20_000

BarStatus = Literal["applied", "duplicate", "late", "corrected", "suspect", "rejected"]


class BarsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Bars that have closed.

    `final`: their steps and all before them are complete; they count and take no more bars.
    `correct` (scope `admin`): bars that are late are corrections, which count from the next step.
    """

    interval: str
    bars: Annotated[list[BarIn], Meta(min_length=1, max_length=MAX_BARS)]
    final: bool = False
    correct: bool = False


class BarResult(Struct, frozen=True, omit_defaults=True):
    """The result of one bar."""

    symbol: str
    ts: str
    status: BarStatus
    detail: str | None = None


class BarsResponse(Struct, frozen=True):
    """Results in the order of the bars, and the close of the newest step that counts."""

    results: list[BarResult]
    as_of: str | None
