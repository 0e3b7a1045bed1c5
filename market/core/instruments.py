"""Instruments and their identifiers.

``BTCUSDT`` is spot, ``BTCUSDT-PERP`` a perpetual, ``BTC-27MAR26-60000-C`` an option of the expiry
``BTC-27MAR26``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from market.core.clock import HOUR
from market.core.errors import InstrumentError

Kind = Literal["spot", "perpetual", "option"]

_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
_EXPIRY = re.compile(r"([A-Z0-9]{2,10})-([0-9]{1,2})([A-Z]{3})([0-9]{2})")
_OPTION = re.compile(rf"({_EXPIRY.pattern})-([0-9]+(?:\.[0-9]+)?)-([CP])")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

EXPIRY_HOUR = 8
"""Options expire at 08:00 UTC, at Deribit and Derive alike."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """What can be held.

    Attributes
    ----------
    id:
        The identifier as given.
    kind:
        ``spot``, ``perpetual`` or ``option``.
    symbol:
        The bar symbol that prices it (``BTCUSDT``), or the underlying of an option (``BTC``).
    expiry:
        Of an option: when it expires, nanoseconds; else None.
    expiry_id:
        Of an option: its expiry's identifier (``BTC-27MAR26``); else None.
    strike:
        Of an option; else None.
    call:
        Whether an option is a call; None where it is no option.
    """

    id: str
    kind: Kind
    symbol: str
    expiry: int | None = None
    expiry_id: str | None = None
    strike: float | None = None
    call: bool | None = None


def is_symbol(name: str) -> bool:
    """Whether a file's name can be that of a symbol, like ``BTCUSDT``."""
    return name.isascii() and name.isalnum() and name == name.upper()


@lru_cache(maxsize=65_536)
def parse_instrument(identifier: str) -> Instrument:
    """Read an identifier.

    Raises
    ------
    InstrumentError
        The identifier has none of the three forms.
    """
    option = _OPTION.fullmatch(identifier)
    if option:
        expiry_id, symbol, strike, side = option[1], option[2], float(option[6]), option[7]
        if not strike > 0.0:
            raise InstrumentError(
                f"option {identifier!r} has strike 0; expected one above 0", identifier
            )
        expiry = parse_expiry(expiry_id)
        return Instrument(identifier, "option", symbol, expiry, expiry_id, strike, side == "C")
    symbol = identifier.removesuffix("-PERP")
    if not _SYMBOL.fullmatch(symbol):
        raise InstrumentError(
            f"instrument {identifier!r} is not understood; expected BTCUSDT for spot, "
            "BTCUSDT-PERP for a perpetual or BTC-27MAR26-60000-C for an option",
            identifier,
        )
    return Instrument(identifier, "spot" if symbol == identifier else "perpetual", symbol)


@lru_cache(maxsize=4_096)
def parse_expiry(identifier: str) -> int:
    """When the options of an expiry (``BTC-27MAR26``) expire, nanoseconds.

    Raises
    ------
    InstrumentError
        The identifier has another form, or there is no such day.
    """
    found = _EXPIRY.fullmatch(identifier)
    try:
        if found is None:
            raise ValueError
        day = datetime(2000 + int(found[4]), _MONTHS.index(found[3]) + 1, int(found[2]), tzinfo=UTC)
    except ValueError:
        raise InstrumentError(
            f"expiry {identifier!r} is not understood; expected a day like BTC-27MAR26", identifier
        ) from None
    hours = (day - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(hours=1) + EXPIRY_HOUR
    return hours * HOUR
