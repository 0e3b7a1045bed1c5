"""Messages of the HTTP API as updates, and back."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given, strategies as st

from market.accounts.book import Account, Balance, Position
from market.core.clock import HOUR, parse_time
from market.core.errors import DataError
from market.sources.base import BarUpdate, QuoteUpdate
from market.sources.http import (
    MAX_HISTORY_DEPTH,
    MAX_POSITIONS,
    NO_HISTORY,
    AccountIn,
    AccountMessage,
    BarIn,
    QuoteIn,
    SviIn,
    account_message,
    account_update,
    bar_message,
    bar_updates,
    quote_message,
    quote_updates,
    read_history,
)

T0 = parse_time("2025-01-01T00:00:00Z")
PRICES = st.floats(1e-15, 1e12)
TIMES = st.integers(0, 10**12).map(lambda micro: T0 + 1_000 * micro)


@given(st.tuples(PRICES, PRICES, PRICES, PRICES, PRICES), TIMES)
def test_a_bar_survives_its_message_to_the_last_bit(
    values: tuple[float, float, float, float, float], ts: int
) -> None:
    update = BarUpdate("BTCUSDT", ts, values)
    encoded = msgspec.json.encode(bar_message(update))
    assert bar_updates([msgspec.json.decode(encoded, type=BarIn)]).updates == [update]


@given(st.dictionaries(PRICES, st.floats(0.01, 10.0), min_size=1), TIMES)
def test_vols_survive_their_message_to_the_last_bit(vols: dict[float, float], ts: int) -> None:
    pairs = tuple(number for strike in sorted(vols) for number in (strike, vols[strike]))
    update = QuoteUpdate("BTC-27MAR26", ts, {"vols": pairs, "forward": (6e4,)})
    encoded = msgspec.json.encode(quote_message(update))
    assert quote_updates([msgspec.json.decode(encoded, type=QuoteIn)]).updates == [update]


def test_a_quote_is_recorded_as_it_was_posted() -> None:
    posted = [
        QuoteIn(
            "BTC-27MAR26", "2025-01-01T00:00:00Z", forward=6e4, vols={"55000": 0.6, "60000.5": 0.5}
        ),
        QuoteIn("BTC-27MAR26", svi=SviIn(0.01, 0.08, -0.4, 0.05, 0.2), confidence=0.5),
        QuoteIn("BTCUSDT-PERP", funding=8e-4, interval_hours=4.0, mark=6e4),
    ]
    batch = quote_updates(posted, T0)
    assert {update.known_at for update in batch.updates} == {T0}
    assert [quote_message(update) for update in batch.updates] == posted


def test_an_account_survives_its_message() -> None:
    positions = (Position("BTCUSDT-PERP", -2.5, 6e4), Position("ETHUSDT", 1.0))
    account = Account("desk/7", 12.5, positions, (Balance("USDT", 3.0),))
    update = account_update(account_message(account), T0)
    assert (update.ts, update.account) == (T0, account)


def test_unreadable_messages_are_named_by_their_place_and_the_others_read() -> None:
    values = (1.0, 1.0, 1.0, 1.0, 0.0)
    bars = [BarIn("A1", "soon and then", *values), BarIn("A2", "2025-01-01T01:00:00Z", *values)]
    batch = bar_updates(bars)
    assert batch.updates == [BarUpdate("A2", T0 + HOUR, values)]
    assert "ISO 8601" in batch.unreadable[0]
    assert batch.in_order(["read"], lambda place, _: f"refused {place}") == ["refused 0", "read"]
    with pytest.raises(DataError, match="message 0: time 'soon and then' is not ISO 8601"):
        batch.readable()


@pytest.mark.parametrize("strike", ["", "nan", "-1", "sixty", "1_000", " 5", "1e999"])
def test_a_strike_that_is_no_number_makes_its_quote_unreadable(strike: str) -> None:
    batch = quote_updates([QuoteIn("BTC-27MAR26", vols={strike: 0.5})])
    assert batch.updates == []
    assert repr(strike) in batch.unreadable[0]


def test_account_beyond_the_limit_of_a_request_is_recorded_and_read_again() -> None:
    positions = tuple(Position(f"C{i}USDT-PERP", 1.0, 2.0) for i in range(MAX_POSITIONS + 1))
    account = Account("large", 5.0, positions)
    recorded = msgspec.to_builtins(account_message(account))
    assert account_update(msgspec.convert(recorded, AccountMessage), T0).account == account
    with pytest.raises(msgspec.ValidationError, match="length <= 1000"):
        msgspec.convert(recorded, AccountIn)


def nested(depth: int, inner: bytes = b"1") -> bytes:
    """A history with so many objects in one another."""
    return b'{"k":' * depth + inner + b"}" * depth


_LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e9, 1e9) | st.text()
)
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.none() | st.dictionaries(st.text(), _VALUES, max_size=4))
def test_a_history_is_read_as_if_it_were_decoded_with_its_account(history: object) -> None:
    body = msgspec.json.encode(
        {"account_id": "a", "cash": 1.0, "positions": [], "history": history}
    )
    sent = msgspec.json.decode(body, type=AccountIn)
    whole = msgspec.json.decode(body, type=AccountMessage)
    assert repr(read_history(sent.history, len(body))) == repr(whole.history)


def test_an_account_without_history_has_none() -> None:
    body = b'{"account_id": "a", "cash": 1, "positions": []}'
    assert read_history(msgspec.json.decode(body, type=AccountIn).history, 1) is None
    assert read_history(NO_HISTORY, 1) is None


def test_a_name_that_a_history_gives_twice_has_its_last_value() -> None:
    assert read_history(msgspec.Raw(b'{"a": 1, "a": 2}'), 100) == {"a": 2}


@pytest.mark.parametrize("inner", [b"1", b"{}", b"[]", b'[1, {"a": 2}, [3]]'])
def test_the_depth_of_a_history_counts_objects_and_arrays(inner: bytes) -> None:
    around = MAX_HISTORY_DEPTH - {b"1": 0, b"{}": 1, b"[]": 1}.get(inner, 2)
    allowed = nested(around, inner)
    assert read_history(msgspec.Raw(allowed), len(allowed)) == msgspec.json.decode(allowed)
    for depth in (around + 1, 500, 990, 100_000):
        with pytest.raises(DataError, match="nested too deeply; at most 64"):
            read_history(msgspec.Raw(nested(depth, inner)), 10**7)


@pytest.mark.parametrize(
    "text", [b"5", b"[]", b'"x"', b"true", b'{"a": 1e999}', b'{"a": "\xff"}', b'{"a": NaN}', b"{"]
)
def test_a_history_that_is_no_object_of_json_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="history is not an object of JSON"):
        read_history(msgspec.Raw(text), 100)


def test_too_long_a_history_is_refused_before_it_is_built() -> None:
    history = b'{"a":[' + b"[]," * 100_000 + b"[]]}"
    body = b'{"account_id":"a","cash":1,"positions":[],"history":' + history + b"}"
    decoder = msgspec.json.Decoder(AccountIn)
    tracemalloc.start()
    account = decoder.decode(body)
    with pytest.raises(DataError, match=f"history has {len(history)} bytes; at most 65536"):
        read_history(account.history, 65_536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
