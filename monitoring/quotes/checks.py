"""Check quotes one by one: can these values exist, and do they fit this market?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from market.bars.bar_cleaning import MAX_PRICE, MAX_VOLUME, MIN_PRICE
from market.bars.panel import FUNDING, IMPLIED_VOLATILITY, OPEN_INTEREST
from market.core.clock import DAY, HOUR, SECOND, format_time
from market.core.errors import DataError, InstrumentError
from market.core.instruments import parse_instrument
from market.quotes.quote_store import QuoteField, expiry_end
from market.sources.base import Figure, QuoteUpdate

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

_PRICE = (MIN_PRICE, MAX_PRICE, f"a price from {MIN_PRICE:g} to {MAX_PRICE:g}")
_VOL = (MIN_PRICE, MAX_VOL, f"an annual vol above 0, at most {MAX_VOL:g}")
_SHARE = (0.0, 1.0, "a share from 0 to 1")
_LIMITS: Mapping[Figure | Literal["interval_hours"], tuple[float, float, str]] = {
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
_OF_INSTRUMENT: tuple[Figure, ...] = ("mark", "vol", "confidence", "open_interest", "implied_vol")
_CONFIDENCES: tuple[Figure, ...] = ("forward_confidence", "vol_confidence")
_SHARED_BY_EXPIRY: tuple[Figure, ...] = ("forward", "rate", *_CONFIDENCES)
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
EXOGENOUS_COLUMNS: Mapping[Figure, int] = {
    "funding": FUNDING,
    "open_interest": OPEN_INTEREST,
    "implied_vol": IMPLIED_VOLATILITY,
}
"""Columns of the fields that belong to a bar, see `market.bars.panel`."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What a quote is of."""

    kind: str
    expiry_id: str | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class QuoteChecks:
    """The market and the times that a quote must fit.

    Attributes
    ----------
    columns:
        Column of each symbol of the market.
    cash_assets:
        Assets of the rule set that count as cash.
    now:
        Time of a quote without one; what expired before it has expired.
    latest:
        Newest time of a quote without a time at which it became known.
    received:
        Wall-clock time that is recorded with the quotes; None where no wall clock counts.
    """

    columns: Mapping[str, int]
    cash_assets: Collection[str]
    now: int
    latest: int
    received: int | None = None

    def check(self, quote: QuoteUpdate) -> tuple[QuoteField, ...] | str:
        """The fields of the quote, of its instrument and expiry, or why it is rejected."""
        try:
            target = self._target(quote.instrument)
            ts = self._time(quote)
            if target.end is not None and target.end < max(ts, self.now):
                raise DataError(
                    f"{quote.instrument!r} expired at {format_time(target.end)}; quote what is "
                    "still alive"
                )
            _check_figures(quote, target)
            return tuple(_fields(quote, target, ts))
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
        if instrument.symbol not in self.columns:
            raise DataError(
                f"{identifier!r} is unknown: the market has no symbol {instrument.symbol}, and "
                f"cash assets of the rule set are {', '.join(sorted(self.cash_assets)) or 'none'}"
            )
        return _Target("perpetual" if instrument.kind == "perpetual" else "spot symbol")

    def _check_underlying(self, identifier: str, underlying: str) -> None:
        if underlying not in self.columns and f"{underlying}USDT" not in self.columns:
            raise DataError(
                f"{identifier!r} is of the underlying {underlying!r}, and the market has no symbol "
                f"{underlying} or {underlying}USDT; add its bars"
            )

    def _time(self, quote: QuoteUpdate) -> int:
        if quote.ts is None:
            return self.now
        latest = self.latest if quote.known_at is None else quote.known_at + AHEAD_OF_CLOCK
        if quote.ts > latest:
            raise DataError(
                f"ts {format_time(quote.ts)} is after {format_time(latest)}, the newest time that "
                "a quote may have now; post it when it holds"
            )
        return quote.ts


def _check_figures(quote: QuoteUpdate, target: _Target) -> None:
    known, figures = _FIGURES[target.kind], quote.figures
    foreign = [name for name in figures if name not in known and name != "interval_hours"]
    if foreign:
        raise DataError(
            f"{', '.join(foreign)} is no field of the {target.kind} {quote.instrument!r}; "
            f"expected {', '.join(known)}"
        )
    if figures.keys() <= {"interval_hours"}:
        raise DataError(
            f"the quote of {quote.instrument!r} has no field; give one of {', '.join(known)}"
        )
    if "interval_hours" in figures and "funding" not in figures:
        raise DataError("interval_hours is the interval of a funding; give funding with it")
    if "vols" in figures and "svi" in figures:
        raise DataError("vols and svi both give the vols of the expiry; give one of them")
    for name, (low, high, expected) in _LIMITS.items():
        (value,) = figures.get(name, (low,))
        if not low <= value <= high:
            raise DataError(f"{name} is {value}; expected {expected}")


def _fields(quote: QuoteUpdate, target: _Target, ts: int) -> Iterator[QuoteField]:
    figures = quote.figures
    if target.kind != "expiry":
        for name in _OF_INSTRUMENT:
            if name in figures:
                yield QuoteField(quote.instrument, name, ts, figures[name])
        if "funding" in figures:
            (hours,) = figures.get("interval_hours", (DEFAULT_FUNDING_HOURS,))
            yield QuoteField(quote.instrument, "funding", ts, (figures["funding"][0] / hours,))
    if target.expiry_id is None or target.end is None:
        return
    of_expiry = {name: figures[name] for name in _SHARED_BY_EXPIRY if name in figures}
    if target.kind == "expiry" and "confidence" in figures:
        # One confidence for all of it; where two are given the least counts.
        for part in _CONFIDENCES:
            of_expiry[part] = min(figures["confidence"], figures.get(part, (1.0,)))
    for name in _SHARED_BY_EXPIRY:
        if name in of_expiry:
            yield QuoteField(target.expiry_id, name, ts, of_expiry[name])
    if "vols" in figures:
        _check_vols(figures["vols"])
        yield QuoteField(target.expiry_id, "vols", ts, figures["vols"])
    if "svi" in figures:
        _check_svi(figures["svi"], (target.end - ts) / _YEAR)
        yield QuoteField(target.expiry_id, "svi", ts, figures["svi"])


def _check_vols(vols: Sequence[float]) -> None:
    low, high, expected = _VOL
    for strike, vol in zip(vols[::2], vols[1::2], strict=True):
        if not MIN_PRICE <= strike <= MAX_PRICE:
            raise DataError(
                f"vols has the strike {strike:g}; expected a price from {MIN_PRICE:g} to "
                f"{MAX_PRICE:g} like 60000"
            )
        if not low <= vol <= high:
            raise DataError(f"vols is {vol} at the strike {strike:g}; expected {expected}")
    if not vols:
        raise DataError("vols has no strike; leave it out, or give the vols of the expiry")


def _check_svi(svi: Sequence[float], years: float) -> None:
    """Refuse raw SVI outside its domain: finite, b >= 0, |rho| < 1, sigma > 0, variance nowhere
    below 0.

    References
    ----------
    Gatheral and Jacquier (2014), Arbitrage-free SVI volatility surfaces, Quantitative Finance 14.
    """
    a, b, rho, m, sigma = svi
    if not all(map(math.isfinite, svi)):
        raise DataError(f"svi is {svi}; expected finite numbers")
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
