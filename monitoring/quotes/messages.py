"""What travels over ``POST /v1/market/quotes``.

Prices are in the settlement currency, rates and vols annual decimals, times ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from decisions.messages import Name, Time

MAX_QUOTES = 5_000
MAX_STRIKES = 1_000
MAX_INSTRUMENTS = 50_000
"""So many instruments and expiries can be quoted at a time."""

_When = Annotated[Time, Meta(description="When it held; absent: the decision time now.")]
_Mark = Annotated[float, Meta(description="Mark or index price, above 0.")]
_Vol = Annotated[float, Meta(description="Of an option: annual, above 0, at most 10.")]
_Forward = Annotated[float, Meta(description="Price for delivery at expiry, above 0.")]
_Rate = Annotated[float, Meta(description="Continuously compounded, a year, -2 to 2.")]
_Vols = Annotated[
    dict[str, float],
    Meta(description="Annual vol by strike; all are told anew.", max_length=MAX_STRIKES),
]
_Confidence = Annotated[
    float, Meta(description="Trust in mark and vol, of an expiry in all its figures, 0 to 1.")
]
_ForwardConfidence = Annotated[
    float, Meta(description="Trust in the forward and rate of the expiry, 0 to 1.")
]
_VolConfidence = Annotated[float, Meta(description="Trust in the vols of the expiry, 0 to 1.")]
_Funding = Annotated[
    float, Meta(description="Share of the notional that longs pay in interval_hours, -1 to 1.")
]
_Hours = Annotated[float, Meta(description="Hours between fundings, at most 24; absent: 8.")]
_OpenInterest = Annotated[float, Meta(description="In units of the underlying, above 0.")]
_ImpliedVol = Annotated[
    float, Meta(description="Volatility index of the underlying: annual, above 0, at most 10.")
]


class SviIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Raw SVI of an expiry: the total variance left is a + b (rho (k - m) + sqrt((k - m)^2 +
    sigma^2)) at k = ln(strike / forward)."""

    a: float
    b: Annotated[float, Meta(description="0 or more.")]
    rho: Annotated[float, Meta(description="Between -1 and 1.")]
    m: float
    sigma: Annotated[float, Meta(description="Above 0.")]


class QuoteIn(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is new of one instrument; figures that are left out stay as they are.

    The instrument is an option (BTC-27MAR26-60000-C: mark, vol, confidence; forward, rate, vols,
    svi and their confidences are those of its expiry), an expiry (BTC-27MAR26: forward, rate, vols
    or svi, confidences), a perpetual (BTCUSDT-PERP: mark, funding, open_interest, implied_vol,
    confidence), a spot symbol (BTCUSDT: mark, open_interest, implied_vol, confidence) or a cash
    asset of the rule set (USDT: mark, the price of the settlement currency's coin, and
    confidence).
    """

    instrument: Name
    ts: _When | None = None
    mark: _Mark | None = None
    vol: _Vol | None = None
    forward: _Forward | None = None
    rate: _Rate | None = None
    vols: _Vols | None = None
    svi: SviIn | None = None
    confidence: _Confidence | None = None
    forward_confidence: _ForwardConfidence | None = None
    vol_confidence: _VolConfidence | None = None
    funding: _Funding | None = None
    interval_hours: _Hours | None = None
    open_interest: _OpenInterest | None = None
    implied_vol: _ImpliedVol | None = None


class QuotesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What is new of instruments."""

    quotes: Annotated[list[QuoteIn], Meta(min_length=1, max_length=MAX_QUOTES)]


class QuoteResult(Struct, frozen=True, omit_defaults=True):
    """What became of one quote; `detail` says why, or which of its figures were late.

    Of a `suspect` quote the price waits for confirmation and the last good one stays in force; its
    other figures count.
    """

    instrument: str
    ts: str
    status: Literal["applied", "duplicate", "late", "suspect", "rejected"]
    detail: str | None = None


class QuotesResponse(Struct, frozen=True):
    """Results in the order of the quotes, and the time of the newest bar or quote."""

    results: list[QuoteResult]
    as_of: str | None
