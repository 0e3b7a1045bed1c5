"""Texts deflated after a preset dictionary: a decision's record shares most of its words with all
others.

The first byte of what is stored names the dictionary. A stored text is read with the dictionary it
names permanently: one in use is never changed, a better one gets the next number and is used from
then on.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

from market.core.errors import AlteredError, UnrecordableError

MAX_TEXT_BYTES = 64 * 2**20
"""No text is longer than this, so that what is stored cannot unpack to all memory."""

CURRENT = 1
"""The dictionary that is written with."""

_LEVEL = 3
"""5% more bytes than the best level, for three quarters of its time."""

_RAW = -zlib.MAX_WBITS
"""Without header and check sum: hashes cover the texts."""

_WRITE_WINDOW = -14
"""16 KiB: records take as many bytes as with the largest window, for two thirds of the time."""


def pack(text: bytes) -> bytes:
    """A text as it is stored.

    Raises
    ------
    UnrecordableError
        It is longer than `MAX_TEXT_BYTES`.

    References
    ----------
    RFC 1951, DEFLATE; https://www.zlib.net/manual.html#Advanced, deflateSetDictionary.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise UnrecordableError(
            f"the value to record has {len(text):,} bytes of canonical JSON; "
            f"{MAX_TEXT_BYTES:,} are the most"
        )
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WRITE_WINDOW, zdict=_dictionary(CURRENT))
    return bytes((CURRENT,)) + deflate.compress(text) + deflate.flush()


def unpack(stored: object) -> bytes:
    """The text that `pack` stored.

    Raises
    ------
    AlteredError
        It never stored this.
    """
    if not isinstance(stored, bytes | memoryview) or not len(stored):
        raise AlteredError(f"a text is stored as {type(stored).__name__}; it was altered")
    packed = bytes(stored)
    preset = _dictionary(packed[0])
    inflate = zlib.decompressobj(_RAW, zdict=preset)
    try:
        text = inflate.decompress(packed[1:], MAX_TEXT_BYTES)
    except zlib.error as error:
        raise AlteredError(f"a stored text cannot be inflated ({error}); it was altered") from error
    if not inflate.eof or inflate.unused_data or inflate.unconsumed_tail:
        raise AlteredError("a stored text is cut short or too long; it was altered")
    return text


def unpack_beginning(stored: bytes) -> bytes:
    """As much of a text as the first bytes of what `pack` stored hold; no hash can cover it.

    Raises
    ------
    AlteredError
        `pack` never stored what begins so.
    """
    if not stored:
        raise AlteredError("a text is stored as nothing; it was altered")
    inflate = zlib.decompressobj(_RAW, zdict=_dictionary(stored[0]))
    try:
        return inflate.decompress(stored[1:], MAX_TEXT_BYTES)
    except zlib.error as error:
        raise AlteredError(f"a stored text cannot be inflated ({error}); it was altered") from error


@cache
def _dictionary(number: int) -> bytes:
    path = Path(__file__).with_name(f"dictionary-{number}.txt")
    if not 1 <= number <= CURRENT:
        raise AlteredError(
            f"a stored text names dictionary {number}, this version has {CURRENT}; it was altered, "
            "or written by a newer version"
        )
    return path.read_bytes()
