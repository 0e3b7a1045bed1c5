"""Ids come back as they were, no two are stored alike, and nothing else passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ledger.packing.identifiers import pack_id, unpack_id, unpack_sha256
from ledger.records import new_id
from market.core.errors import AlteredError

HEX_IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
NEARLY = st.text("0123456789abcdefABCDEF", min_size=30, max_size=34)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SIXTEEN_BYTES = st.text("ab\u0000\u007f", min_size=14, max_size=17)
"""Those of 15 and 16 bytes are as long as packed ids once they are tagged."""
IDS = HEX_IDS | NEARLY | WORDS | SIXTEEN_BYTES


@given(text=IDS)
def test_an_id_comes_back_as_it_was(text: str) -> None:
    assert unpack_id(pack_id(text)) == unpack_id(memoryview(pack_id(text))) == text


@given(one=IDS, other=IDS)
def test_two_ids_are_never_stored_alike(one: str, other: str) -> None:
    assert (pack_id(one) == pack_id(other)) == (one == other)


@given(one=HEX_IDS, other=HEX_IDS)
def test_made_ids_take_half_their_digits_and_sort_like_them(one: str, other: str) -> None:
    assert len(pack_id(one)) == len(pack_id(new_id())) == 16
    assert (pack_id(one) < pack_id(other)) == (one < other)


@given(stored=st.binary(max_size=40) | st.binary(max_size=40).map(lambda rest: b"\xff" + rest))
def test_any_bytes_are_one_id_or_altered(stored: bytes) -> None:
    """An altered id is another one or an error; two stored forms never give the same id."""
    try:
        text = unpack_id(stored)
    except AlteredError:
        return
    assert pack_id(text) == stored


@pytest.mark.parametrize("stored", [None, 7, "a" * 32, b"", b"abc", b"\xff\xfe", b"\xff" * 17])
def test_other_values_are_altered(stored: object) -> None:
    with pytest.raises(AlteredError, match="it was altered"):
        unpack_id(stored)


@given(stored=st.binary(min_size=32, max_size=32))
def test_a_hash_comes_back_as_it_was(stored: bytes) -> None:
    assert bytes.fromhex(unpack_sha256(stored)) == stored


@pytest.mark.parametrize("stored", [None, "a" * 64, bytes(31), bytes(33), b""])
def test_other_values_are_no_hash(stored: object) -> None:
    with pytest.raises(AlteredError, match="SHA-256"):
        unpack_sha256(stored)
