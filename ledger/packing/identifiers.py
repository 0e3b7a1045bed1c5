"""Ids and hashes as bytes: half as long as their hexadecimal digits."""

from __future__ import annotations

import re

from market.core.errors import AlteredError

_HEX_ID = re.compile("[0-9a-f]{32}")
_ID_BYTES, _SHA256_BYTES = 16, 32
_TEXT = b"\xff"


def pack_id(text: str) -> bytes:
    """An id as it is stored.

    32 lower-case hexadecimal digits, as `ledger.records.new_id` makes them, become their 16 bytes
    and sort like them. Any other text is UTF-8 after a byte that UTF-8 never holds, twice where it
    would have 16 bytes: no two texts are stored alike.
    """
    if _HEX_ID.fullmatch(text):
        return bytes.fromhex(text)
    tagged = _TEXT + text.encode()
    return _TEXT + tagged if len(tagged) == _ID_BYTES else tagged


def unpack_id(stored: object) -> str:
    """The id that `pack_id` stored.

    Raises
    ------
    AlteredError
        It never stored this.
    """
    if isinstance(stored, bytes | memoryview):
        packed = bytes(stored)
        if len(packed) == _ID_BYTES:
            return packed.hex()
        if packed.startswith(_TEXT):
            try:
                text = packed.removeprefix(_TEXT).removeprefix(_TEXT).decode()
            except UnicodeDecodeError:
                text = ""
            if pack_id(text) == packed:
                return text
    raise AlteredError(f"an id is stored as {stored!r}; it was altered")


def unpack_sha256(stored: object) -> str:
    """A stored SHA-256 in lower-case hexadecimal.

    Raises
    ------
    AlteredError
        It is not 32 bytes.
    """
    if isinstance(stored, bytes | memoryview) and len(stored) == _SHA256_BYTES:
        return bytes(stored).hex()
    raise AlteredError(f"a SHA-256 is stored as {stored!r}; it was altered")
