"""Posted quotes, one by one: can these figures exist, and do they fit this market?"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from market.bars.bar_cleaning import MAX_PRICE, MAX_VOLUME, MIN_PRICE
from market.bars.panel import FUNDING, IMPLIED_VOLATILITY, OPEN_INTEREST
from market.core.clock import DAY, HOUR, SECOND, format_time, parse_time
from market.core.errors import DataError, InstrumentError
from market.core.instruments import parse_instrument
from market.quotes.quote_store import Figure, QuoteField, expiry_end
from monitoring.quotes.messages import QuoteIn, SviIn

MAX_VOL = 10.0
MAX_RATE = 2.0
MAX_FUNDING = 1.0
MAX_FUNDING_HOURS = 24.0
"""Limits of an annual vol, of an annual rate, of a funding rate and of the hours it is for."""

DEFAULT_FUNDING_HOURS = 8.0

AHEAD_OF_CLOCK = 5 * SECOND
"""So far may a quote be ahead of the wall clock: clocks differ."""

AHEAD_OF_BARS = DAY
"""So far may a quote be ahead of the newest bar where no wall clock vouches for the time."""

_YEAR = 365 * 24 * HOUR
_STRIKE = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

_PRICE = (MIN_PRICE, MAX_PRICE, f"a price from {MIN_PRICE:g} to {MAX_PRICE:g}")
_VOL = (MIN_PRICE, MAX_VOL, f"an annual vol above 0, at most {MAX_VOL:g}")
_SHARE = (0.0, 1.0, "a share from 0 to 1")
_LIMITS: Mapping[str, tuple[float, float, str]] = {
    "mark": _PRICE,
    "forward": _PRICE,
    "vol": _VOL,
    "implied_vol": _VOL,
    "rate": (-MAX_RATE, MAX_RATE, f"an annual rate from {-MAX_RATE:g} to {MAX_RATE:g}"),
    "confidence": _SHARE,
    "forward_confidence": _SHARE,
    "vol_confidence": _SHARE,
    "funding": (-MAX_FUNDING, MAX_FUNDING, f"a rate from {-MAX_FUNDING:g} to {MAX_FUNDING:g}"),
    "interval_hours": (1e-3, MAX_FUNDING_HOURS, f"hours above 0, at most {MAX_FUNDING_HOURS:g}"),
    "open_interest": (MIN_PRICE, MAX_VOLUME, f"an amount above 0, at most {MAX_VOLUME:g}"),
}

_OF_EXPIRY = ("forward", "rate", "vols", "svi", "forward_confidence", "vol_confidence")
_FIGURES: Mapping[str, tuple[str, ...]] = {
    "option": ("mark", "vol", "confidence", *_OF_EXPIRY),
    "expiry": (*_OF_EXPIRY, "confidence"),
    "perpetual": (
        "mark",
        "funding",
        "interval_hours",
        "open_interest",
        "implied_vol",
        "confidence",
    ),
    "spot symbol": ("mark", "open_interest", "implied_vol", "confidence"),
    "cash asset": ("mark", "confidence"),
}
_CONTEXT = {
    "funding": FUNDING,
    "open_interest": OPEN_INTEREST,
    "implied_vol": IMPLIED_VOLATILITY,
}


@dataclass(frozen=True, slots=True)
class SoundQuote:
    """A quote that can be applied.

    Attributes
    ----------
    ts:
        When it held, nanoseconds.
    figures:
        What it tells, of the instrument and of its expiry.
    column:
        Of its symbol in the market; None for options, expiries and cash.
    """

    ts: int
    figures: tuple[QuoteField, ...]
    column: int | None

    def context(self) -> Iterator[tuple[QuoteField, int]]:
        """The figures that are context of a bar, each with its column there."""
        for figure in self.figures:
            if figure.figure in _CONTEXT:
                yield figure, _CONTEXT[figure.figure]


@dataclass(frozen=True, slots=True)
class _Target:
    """What a quote is of."""

    kind: str
    expiry_id: str | None = None
    end: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class QuoteChecks:
    """What a quote is held against.

    Attributes
    ----------
    columns:
        Column of each symbol of the market.
    cash_assets:
        Assets of the rule set that count as cash.
    now:
        Time of a quote without one; what expired before it has expired.
    latest:
        Newest time that a quote may have.
    """

    columns: Mapping[str, int]
    cash_assets: Collection[str]
    now: int
    latest: int

    def check(self, quote: QuoteIn) -> SoundQuote | str:
        """The quote in plain numbers, or why it is rejected."""
        try:
            target = self._target(quote.instrument)
            ts = self._time(quote.ts)
            if target.end is not None and target.end < max(ts, self.now):
                raise DataError(
                    f"{quote.instrument!r} expired at {format_time(target.end)}; quote what is "
                    "still alive"
                )
            _check_figures(quote, target)
            return SoundQuote(ts, tuple(_figures(quote, target, ts)), target.column)
        except DataError as error:
            return str(error)

    def fits(self, identifier: str) -> bool:
        """Whether a quote can be of this instrument."""
        try:
            self._target(identifier)
        except DataError:
            return False
        return True

    def _target(self, identifier: str) -> _Target:
        if identifier in self.cash_assets:
            return _Target("cash asset")
        end = expiry_end(identifier)
        if end is not None:
            self._check_underlying(identifier, identifier.partition("-")[0])
            return _Target("expiry", identifier, end)
        try:
            instrument = parse_instrument(identifier)
        except InstrumentError:
            raise DataError(
                f"instrument {identifier!r} is not understood; expected an option like "
                "BTC-27MAR26-60000-C, an expiry like BTC-27MAR26, a perpetual like BTCUSDT-PERP, "
                "a symbol like BTCUSDT or a cash asset like USDT"
            ) from None
        if instrument.kind == "option":
            self._check_underlying(identifier, instrument.symbol)
            return _Target("option", instrument.expiry_id, instrument.expiry)
        column = self.columns.get(instrument.symbol)
        if column is None:
            raise DataError(
                f"{identifier!r} is unknown: the market has no symbol {instrument.symbol}, and "
                f"cash assets of the rule set are {', '.join(sorted(self.cash_assets)) or 'none'}"
            )
        return _Target(
            "perpetual" if instrument.kind == "perpetual" else "spot symbol", column=column
        )

    def _check_underlying(self, identifier: str, underlying: str) -> None:
        if underlying not in self.columns and f"{underlying}USDT" not in self.columns:
            raise DataError(
                f"{identifier!r} is of the underlying {underlying!r}, and the market has no symbol "
                f"{underlying} or {underlying}USDT; add its bars"
            )

    def _time(self, text: str | None) -> int:
        if text is None:
            return self.now
        ts = parse_time(text)
        if ts > self.latest:
            raise DataError(
                f"ts {text} is after {format_time(self.latest)}, the newest time that a quote may "
                "have now; post it when it holds"
            )
        return ts


def _check_figures(quote: QuoteIn, target: _Target) -> None:
    known = _FIGURES[target.kind]
    given = [
        name
        for name in (*_LIMITS, "vols", "svi")
        if name != "interval_hours" and getattr(quote, name) is not None
    ]
    foreign = [name for name in given if name not in known]
    if foreign:
        raise DataError(
            f"{', '.join(foreign)} is no figure of the {target.kind} {quote.instrument!r}; "
            f"expected {', '.join(known)}"
        )
    if not given:
        raise DataError(f"nothing is told of {quote.instrument!r}; give one of {', '.join(known)}")
    if quote.interval_hours is not None and quote.funding is None:
        raise DataError("interval_hours says what a funding is for; give funding with it")
    if quote.vols is not None and quote.svi is not None:
        raise DataError("vols and svi both tell the vols of the expiry; give one of them")
    for name, (low, high, expected) in _LIMITS.items():
        value = getattr(quote, name)
        if value is not None and not low <= value <= high:
            raise DataError(f"{name} is {value}; expected {expected}")


def _figures(quote: QuoteIn, target: _Target, ts: int) -> Iterator[QuoteField]:
    if target.kind != "expiry":
        for name in ("mark", "vol", "confidence", "open_interest", "implied_vol"):
            value = getattr(quote, name)
            if value is not None:
                yield QuoteField(quote.instrument, name, ts, (value,))
        if quote.funding is not None:
            hours = quote.interval_hours or DEFAULT_FUNDING_HOURS
            yield QuoteField(quote.instrument, "funding", ts, (quote.funding / hours,))
    if target.expiry_id is None or target.end is None:
        return
    forward_confidence, vol_confidence = quote.forward_confidence, quote.vol_confidence
    if target.kind == "expiry" and quote.confidence is not None:
        # One confidence for all of it; where two are given the least counts.
        forward_confidence = min(quote.confidence, _or_one(forward_confidence))
        vol_confidence = min(quote.confidence, _or_one(vol_confidence))
    shares: tuple[tuple[Figure, float | None], ...] = (
        ("forward", quote.forward),
        ("rate", quote.rate),
        ("forward_confidence", forward_confidence),
        ("vol_confidence", vol_confidence),
    )
    for figure, value in shares:
        if value is not None:
            yield QuoteField(target.expiry_id, figure, ts, (value,))
    if quote.vols is not None:
        yield QuoteField(target.expiry_id, "vols", ts, _vols(quote.vols))
    if quote.svi is not None:
        yield QuoteField(target.expiry_id, "svi", ts, _svi(quote.svi, (target.end - ts) / _YEAR))


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def _vols(vols: Mapping[str, float]) -> tuple[float, ...]:
    """Strike and vol in turn, strikes rising."""
    found: dict[float, float] = {}
    for text, vol in vols.items():
        strike = float(text) if _STRIKE.fullmatch(text) else math.nan
        if not MIN_PRICE <= strike <= MAX_PRICE:
            raise DataError(
                f"vols has the strike {text!r}; expected a price from {MIN_PRICE:g} to "
                f"{MAX_PRICE:g} like 60000"
            )
        if strike in found:
            raise DataError(f"vols has the strike {text!r} twice; give each strike once")
        low, high, expected = _VOL
        if not low <= vol <= high:
            raise DataError(f"vols is {vol} at the strike {text!r}; expected {expected}")
        found[strike] = vol
    if not found:
        raise DataError("vols has no strike; leave it out, or give the vols of the expiry")
    return tuple(number for strike in sorted(found) for number in (strike, found[strike]))


def _svi(svi: SviIn, years: float) -> tuple[float, ...]:
    """Raw SVI in its domain: finite, b >= 0, |rho| < 1, sigma > 0, total variance nowhere below 0.

    References
    ----------
    Gatheral and Jacquier (2014), Arbitrage-free SVI volatility surfaces, Quantitative Finance 14.
    """
    a, b, rho, m, sigma = values = (svi.a, svi.b, svi.rho, svi.m, svi.sigma)
    if not all(map(math.isfinite, values)):
        raise DataError(f"svi is {values}; expected finite numbers")
    if not (b >= 0.0 and abs(rho) < 1.0 and sigma > 0.0):
        raise DataError(
            f"svi has b {b}, rho {rho} and sigma {sigma}; expected b of 0 or more, rho between -1 "
            "and 1 and sigma above 0"
        )
    least = a + b * sigma * math.sqrt(1.0 - rho * rho)
    if not least >= 0.0:
        raise DataError(
            f"svi has a total variance of {least} at its lowest point, a + b sigma sqrt(1 - rho^2);"
            " expected 0 or more"
        )
    if not years > 0.0:
        raise DataError("svi is of an expiry that is over; no variance is left")
    highest = MAX_VOL * MAX_VOL * years
    at_the_money = a + b * (math.hypot(m, sigma) - rho * m)
    if not 0.0 < at_the_money <= highest:
        raise DataError(
            f"svi has a total variance of {at_the_money} at the forward with {years} years left; "
            f"expected above 0 and at most {highest}, a vol of {MAX_VOL:g}"
        )
    return values
