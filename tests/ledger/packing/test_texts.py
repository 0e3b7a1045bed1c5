"""Packed texts come back as they were, cost bounded memory, and no altered byte passes for them."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ledger.canonical import canonical_bytes
from ledger.packing import texts
from ledger.packing.texts import CURRENT, MAX_TEXT_BYTES, pack, unpack
from market.core.errors import AlteredError, UnrecordableError

DICTIONARIES = Path(texts.__file__).parent
FROZEN = {1: "a133d863d0fd9639cfe5a7d29029b95933a038d369762ff552acaaad74557a36"}
"""A stored text is inflated with the dictionary that it names. Were a byte of one changed, every
ledger that was written with it would be unreadable, or read as something else. A better dictionary
gets the next number, and its SHA-256 is added here."""

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


def test_the_dictionaries_are_the_ones_that_stored_texts_name() -> None:
    found = {
        int(path.stem.removeprefix("dictionary-")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in DICTIONARIES.glob("dictionary-*.txt")
    }
    assert found == FROZEN
    assert max(FROZEN) == CURRENT


@given(text=st.binary(max_size=3_000) | VALUES.map(canonical_bytes))
def test_a_text_comes_back_as_it_was(text: bytes) -> None:
    packed = pack(text)
    assert packed[0] == CURRENT
    assert unpack(packed) == unpack(memoryview(packed)) == text


@given(one=st.binary(max_size=40), other=st.binary(max_size=40))
def test_two_texts_are_never_stored_alike(one: bytes, other: bytes) -> None:
    assert (pack(one) == pack(other)) == (one == other)


@given(text=st.binary(min_size=1, max_size=300) | VALUES.map(canonical_bytes), data=st.data())
def test_an_altered_byte_is_noticed_or_gives_another_text_or_the_same(
    text: bytes, data: st.DataObject
) -> None:
    """DEFLATE may write a text in several ways, so the same text may come back: it is what was
    recorded. Everything else raises `AlteredError` or fails against the hash of the record."""
    packed = pack(text)
    place = data.draw(st.integers(0, len(packed) - 1))
    altered = bytearray(packed)
    altered[place] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack(bytes(altered))
    except AlteredError:
        return
    assert place > 0, "another dictionary was taken for this one"
    assert isinstance(found, bytes)
    assert len(found) <= MAX_TEXT_BYTES


@given(text=st.binary(max_size=300), extra=st.binary(min_size=1, max_size=5), data=st.data())
def test_what_is_cut_short_or_longer_is_altered(
    text: bytes, extra: bytes, data: st.DataObject
) -> None:
    packed = pack(text)
    with pytest.raises(AlteredError):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(AlteredError):
        unpack(packed + extra)


@given(stored=st.binary(max_size=200))
def test_any_bytes_are_a_text_or_altered(stored: bytes) -> None:
    try:
        text = unpack(stored)
    except AlteredError:
        return
    assert unpack(pack(text)) == text


@pytest.mark.parametrize("stored", [None, 7, "text", b"", b"\x00", b"\x02abc", [b"\x01"]])
def test_other_values_are_altered(stored: object) -> None:
    with pytest.raises(AlteredError):
        unpack(stored)


def test_a_bomb_is_altered_and_takes_no_more_memory_than_the_longest_text() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(2**20)
    bomb = bytes((CURRENT,)) + b"".join(deflate.compress(zeros) for _ in range(512))
    bomb += deflate.flush()
    assert len(bomb) < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(AlteredError, match="too long"):
            unpack(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_TEXT_BYTES, "of 512 MiB"


def test_the_longest_text_is_taken_and_a_longer_one_is_refused() -> None:
    longest = bytes(MAX_TEXT_BYTES)
    assert unpack(pack(longest)) == longest
    with pytest.raises(UnrecordableError, match="67,108,864 are the most"):
        pack(longest + b"0")
