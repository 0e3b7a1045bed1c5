"""Cursors: where a page ended, as an opaque text."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TypeVar

import msgspec
from msgspec import Struct

from decisions.errors import RequestError

NO_CURSOR = "the cursor is none that was returned; begin with the first page"

Cursor = TypeVar("Cursor", bound=Struct)


def encode_cursor(cursor: Struct) -> str:
    """A cursor as it is answered."""
    return urlsafe_b64encode(msgspec.json.encode(cursor)).decode("ascii").rstrip("=")


def decode_cursor(text: str, kind: type[Cursor]) -> Cursor:
    """The cursor of a request; raises `RequestError` where none of its kind was answered so."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise RequestError(NO_CURSOR) from None
