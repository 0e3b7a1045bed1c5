"""Requests and answers of ``POST /v1/market/quotes``; `market.sources.http` has one quote."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from market.sources.http import QuoteIn

MAX_QUOTES = 5_000
MAX_INSTRUMENTS = 50_000
"""Most instruments and expiries with quotes."""

QuoteStatus = Literal["applied", "duplicate", "late", "suspect", "rejected"]


class QuotesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Quotes of instruments."""

    quotes: Annotated[list[QuoteIn], Meta(min_length=1, max_length=MAX_QUOTES)]
    """Quotes, in any order."""


class QuoteResult(Struct, frozen=True, omit_defaults=True):
    """The result of one quote; `detail` says why, or which of its fields were late.

    Of a `suspect` quote the price waits for confirmation and the last good one stays in force; its
    other fields count.
    """

    instrument: str
    """Instrument of the quote."""
    ts: str
    """When it held."""
    status: QuoteStatus
    """What became of it."""
    detail: str | None = None
    """Why it does not count, or not yet; absent where it counts as sent."""


class QuotesResponse(Struct, frozen=True):
    """Results in the order of the quotes, and the time of the newest bar or quote."""

    results: list[QuoteResult]
    """Results in the order of the request."""
    as_of: str | None
    """Time of the newest bar or quote; null before any."""
