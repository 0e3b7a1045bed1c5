"""Protobuf messages read field by field, for graphs that are not trusted yet.

Reference: Protocol Buffers encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from market.core.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one message; fixed-width values are skipped.

    Raises
    ------
    BundleError
        The bytes are no protobuf message.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise BundleError(f"ONNX file has protobuf wire type {wire}; it is damaged")
        if position + length > len(data):
            raise BundleError("ONNX file ends inside a field; it is damaged, export it again")
        if wire == _BYTES:
            yield number, data[position : position + length]
        position += length


def integers(value: int | memoryview) -> list[int]:
    """Values of a repeated number, packed into one field or not."""
    if isinstance(value, int):
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def message(value: int | memoryview) -> memoryview:
    """The bytes of a message inside a field; raises `BundleError` where it holds a number."""
    if isinstance(value, int):
        raise BundleError("ONNX file has a number where a message belongs; it is damaged")
    return value


def text(value: int | memoryview) -> str:
    """The text of a field; raises `BundleError` where it holds a number."""
    return bytes(message(value)).decode("utf-8", "replace")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise BundleError("ONNX file has a broken number; it is damaged, export it again")
