"""Identifiers of instruments."""

from __future__ import annotations

import pytest

from market.core.errors import InstrumentError, MargincastError
from market.core.instruments import parse_instrument


@pytest.mark.parametrize(
    ("identifier", "kind", "symbol"),
    [
        ("BTCUSDT", "spot", "BTCUSDT"),
        ("BTCUSDT-PERP", "perpetual", "BTCUSDT"),
        ("1000LUNCUSDT-PERP", "perpetual", "1000LUNCUSDT"),
        ("BTC-27MAR26-60000-C", "option", "BTC"),
        ("XRP-5JAN26-0.55-P", "option", "XRP"),
    ],
)
def test_three_forms_are_read(identifier: str, kind: str, symbol: str) -> None:
    instrument = parse_instrument(identifier)
    assert (instrument.id, instrument.kind, instrument.symbol) == (identifier, kind, symbol)


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "B",
        "btcusdt",
        "BTC/USDT",
        "BTCUSDT ",
        "BTCUSDT\n",
        "-PERP",
        "BTCUSDT-PERP-PERP",
        "BTCUSDT-perp",
        "BTC-27MAR26-60000",
        "BTC-27MAR26-60000-X",
        "BTC-27MAR26--60000-C",
        "BTC-27MAR26-.5-C",
        "BTC-\u0662\u0667MAR26-60000-C",  # digits, but not ours
        "../BTCUSDT",
        "A" * 21,
    ],
)
def test_anything_else_is_refused_and_named(identifier: str) -> None:
    with pytest.raises(InstrumentError, match="is not understood; expected BTCUSDT") as caught:
        parse_instrument(identifier)
    assert caught.value.instrument == identifier
    assert isinstance(caught.value, MargincastError)
