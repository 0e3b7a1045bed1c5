"""Instruments and their identifiers.

``BTCUSDT`` is spot, ``BTCUSDT-PERP`` a perpetual, ``BTC-27MAR26-60000-C`` an option.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from market.errors import InstrumentError

Kind = Literal["spot", "perpetual", "option"]

_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
_OPTION = re.compile(r"([A-Z0-9]{2,10})-([0-9]{1,2}[A-Z]{3}[0-9]{2})-([0-9]+(?:\.[0-9]+)?)-([CP])")


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
    """

    id: str
    kind: Kind
    symbol: str


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
        return Instrument(identifier, "option", option[1])
    symbol = identifier.removesuffix("-PERP")
    if not _SYMBOL.fullmatch(symbol):
        raise InstrumentError(
            f"instrument {identifier!r} is not understood; expected BTCUSDT for spot, "
            "BTCUSDT-PERP for a perpetual or BTC-27MAR26-60000-C for an option",
            identifier,
        )
    return Instrument(identifier, "spot" if symbol == identifier else "perpetual", symbol)
