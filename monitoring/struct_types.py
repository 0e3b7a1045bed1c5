"""Message types made ready before threads decode them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


def prepare_struct_types() -> None:
    """Build what msgspec needs to decode each message type that is imported.

    msgspec 0.22 builds it at the first decoding of a type and shows it to other threads before it
    is complete: two threads that decode a type for the first time at once end the process with a
    segmentation fault. Call this before threads start; it takes about 25 ms for 220 types.
    """
    for kind in _subclasses(msgspec.Struct):
        msgspec.json.Decoder(kind)


def _subclasses(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
