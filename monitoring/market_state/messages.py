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
    """Length of a bar, which must be that of the market, like `1h`."""
    bars: Annotated[list[BarIn], Meta(min_length=1, max_length=MAX_BARS)]
    """Closed bars, in any order."""
    final: bool = False
    """Whether no more bars of the steps in this request come."""
    correct: bool = False
    """Whether the bars may replace those of older steps; needs the scope `admin`."""


class BarResult(Struct, frozen=True, omit_defaults=True):
    """The result of one bar."""

    symbol: str
    """Symbol of the bar."""
    ts: str
    """Open of the bar."""
    status: BarStatus
    """What became of it."""
    detail: str | None = None
    """Why it does not count, or not yet; absent where it counts as sent."""


class BarsResponse(Struct, frozen=True):
    """Results in the order of the bars, and the close of the newest step that counts."""

    results: list[BarResult]
    """Results in the order of the request."""
    as_of: str | None
    """Close of the newest step that counts; null before any."""
