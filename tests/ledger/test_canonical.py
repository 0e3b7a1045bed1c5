from __future__ import annotations

import json
import struct
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ledger.canonical import canonical_bytes, read_canonical, sha256_of
from market.core.errors import LedgerError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FINITE | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(FINITE)
def test_floats_come_back_bit_for_bit(value: float) -> None:
    (back,) = read_canonical(canonical_bytes([value]))
    assert type(back) is float
    assert bits(back) == bits(value)


@pytest.mark.parametrize(
    "value", [-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e22, 1.0, 2.0**53]
)
def test_awkward_floats_come_back_bit_for_bit(value: float) -> None:
    assert bits(read_canonical(canonical_bytes([value]))[0]) == bits(value)


@given(VALUES)
def test_values_come_back_and_keep_their_bytes(value: object) -> None:
    written = canonical_bytes(value)
    back = read_canonical(written)
    assert back == value
    assert canonical_bytes(back) == written


@given(VALUES)
def test_the_short_way_gives_the_same_bytes_as_the_plain_encoder(value: object) -> None:
    plain = json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    try:
        expected = plain.encode()
    except UnicodeEncodeError:
        for text_keys in (False, True):
            with pytest.raises(LedgerError, match="no canonical JSON"):
                canonical_bytes(value, text_keys=text_keys)
    else:
        assert canonical_bytes(value) == canonical_bytes(value, text_keys=True) == expected


@given(st.dictionaries(st.text(), LEAVES, max_size=6))
def test_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_bytes(turned) == canonical_bytes(value)


def test_bytes_are_exactly_these() -> None:
    value = {"é": [1, 1.0, True, None], "a": {"z": "\u0000\n€", "b": 1700000000000000001}}
    assert canonical_bytes(value).decode() == (
        r'{"a":{"b":1700000000000000001,"z":"\u0000\n€"},"é":[1,1.0,true,null]}'
    )
    assert sha256_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_nan_and_infinity_are_refused_by_path(value: float) -> None:
    with pytest.raises(LedgerError, match=r"\$\.curve\[1\]\.24 is .*finite"):
        canonical_bytes({"curve": [0.5, {"24": value}]})
    with pytest.raises(LedgerError, match=r"\$\.curve\[1\]\.24 is .*finite"):
        canonical_bytes({"curve": [0.5, {"24": value}]}, text_keys=True)


@pytest.mark.parametrize("value", [Decimal(1), np.int64(1), b"x", {1}, object()])
def test_types_json_lacks_are_refused_by_path(value: object) -> None:
    with pytest.raises(LedgerError, match=r"\$\.a is a .*convert"):
        canonical_bytes({"a": value})
    with pytest.raises(LedgerError, match=r"\$\.a is a .*convert"):
        canonical_bytes({"a": value}, text_keys=True)


def test_keys_that_json_would_turn_into_text_are_refused() -> None:
    with pytest.raises(LedgerError, match=r"\$\.p has the key 1"):
        canonical_bytes({"p": {1: 0.5, "1": 0.6}})


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(LedgerError, match="no canonical JSON"):
        canonical_bytes({"a": "\ud800"})


def test_values_that_contain_themselves_are_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(LedgerError, match="contains itself"):
        canonical_bytes(loop)


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="not JSON"):
        read_canonical(text)
