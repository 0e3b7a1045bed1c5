"""Quotes of instruments and expiries as they stand at one time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class ExpiryQuote:
    """What is known of the options of one expiry.

    Attributes
    ----------
    ts:
        When it held, nanoseconds; of forward and vols the older one where they came apart.
    forward:
        Price of the underlying for delivery at expiry.
    rate:
        Continuously compounded, a year.
    svi:
        Raw SVI parameters (a, b, rho, m, sigma) of the total variance left at `ts` over
        ``k = ln(K / forward)``; None where vols are given by strike.
    vols:
        Annual vol by strike.
    forward_confidence, vol_confidence:
        How far forward and vols are trusted, 0 to 1.
    suspect_forward, suspect_ts:
        Forward that the outlier filter has not confirmed yet and its time in nanoseconds, no
        earlier than that of `forward`; None where there is none.
    suspect_svi, suspect_vols, suspect_surface_ts:
        Surface that the outlier filter has not confirmed yet, in one of the two forms (SVI of the
        total variance left at `ts`), and its time in nanoseconds; None where there is none.
    """

    ts: int
    forward: float
    rate: float
    svi: tuple[float, float, float, float, float] | None = None
    vols: Mapping[float, float] = field(default_factory=dict)
    forward_confidence: float = 1.0
    vol_confidence: float = 1.0
    suspect_forward: float | None = None
    suspect_ts: int | None = None
    suspect_svi: tuple[float, float, float, float, float] | None = None
    suspect_vols: Mapping[float, float] | None = None
    suspect_surface_ts: int | None = None


@dataclass(frozen=True, slots=True)
class InstrumentQuote:
    """What is known of one instrument.

    Attributes
    ----------
    ts:
        When it held, nanoseconds: the vol of an option, else the mark, else what is newest.
    mark:
        Price in the settlement currency; None where only other figures are quoted.
    vol:
        Of an option, annual; it goes before that of its expiry.
    funding:
        Of a perpetual, share of the notional an hour.
    confidence:
        How far the mark is trusted, 0 to 1.
    open_interest:
        Of a perpetual, in units of the underlying, one side counted.
    implied_vol:
        Annual volatility index of the underlying.
    suspect_mark, suspect_vol, suspect_ts:
        Mark, of an option vol, that the outlier filter has not confirmed yet and its time in
        nanoseconds, no earlier than that of the last good one; None where there is none.
    """

    ts: int
    mark: float | None = None
    vol: float | None = None
    funding: float | None = None
    confidence: float = 1.0
    open_interest: float | None = None
    implied_vol: float | None = None
    suspect_mark: float | None = None
    suspect_vol: float | None = None
    suspect_ts: int | None = None


@dataclass(frozen=True)
class QuoteBoard:
    """The newest quote of everything quoted.

    Attributes
    ----------
    expiries:
        By identifier, ``BTC-27MAR26``.
    instruments:
        By identifier: options, perpetuals, spot. The spot of a cash asset (``USDT``) is the price
        of the settlement currency's coin.
    """

    expiries: Mapping[str, ExpiryQuote] = field(default_factory=dict)
    instruments: Mapping[str, InstrumentQuote] = field(default_factory=dict)

    @property
    def newest(self) -> int | None:
        """Time of the newest quote; None without one."""
        times = [quote.ts for quote in self.expiries.values()]
        times += [quote.ts for quote in self.instruments.values()]
        return max(times, default=None)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Plain form for the ledger; `from_content` gives an equal board, every float bit for bit.

        Vols become pairs of strike and vol, strikes rising; what is not known is left out. Made
        once for all decisions on a board: not to be changed.
        """
        return {
            "expiries": {
                name: {
                    **_known(quote),
                    "vols": _pairs(quote.vols),
                    **(
                        {}
                        if quote.suspect_vols is None
                        else {"suspect_vols": _pairs(quote.suspect_vols)}
                    ),
                }
                for name, quote in self.expiries.items()
            },
            "instruments": {name: _known(quote) for name, quote in self.instruments.items()},
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> QuoteBoard:
        """Read the plain form."""
        return cls(
            {
                name: ExpiryQuote(
                    **{
                        **quote,
                        "vols": _by_strike(quote["vols"]),
                        "svi": tuple(quote["svi"]) if "svi" in quote else None,
                        "suspect_svi": (
                            tuple(quote["suspect_svi"]) if "suspect_svi" in quote else None
                        ),
                        "suspect_vols": (
                            _by_strike(quote["suspect_vols"]) if "suspect_vols" in quote else None
                        ),
                    }
                )
                for name, quote in content["expiries"].items()
            },
            {name: InstrumentQuote(**quote) for name, quote in content["instruments"].items()},
        )


def _pairs(vols: Mapping[float, float]) -> list[list[float]]:
    return [[strike, vols[strike]] for strike in sorted(vols)]


def _by_strike(pairs: Iterable[Sequence[float]]) -> dict[float, float]:
    return {float(strike): float(vol) for strike, vol in pairs}


def _known(quote: ExpiryQuote | InstrumentQuote) -> dict[str, Any]:
    values = ((name, getattr(quote, name)) for name in quote.__slots__)
    return {name: value for name, value in values if value is not None}
