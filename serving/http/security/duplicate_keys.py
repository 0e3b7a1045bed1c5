"""JSON objects that repeat a key: JSON allows them, and readers differ in which value they use.

The decoder keeps the last one, a proxy or an auditor may keep the first. So a body that was decoded
is read once more for its keys alone.
"""

from __future__ import annotations

import json
import secrets
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SEED = np.uint64(secrets.randbits(64))
"""Seed of the hash of a key, so that a client cannot construct collisions."""

_SHORT = 8
"""Keys of an object that are compared each with each; more are looked up in a table."""

_START = 64
_QUOTE, _BACKSLASH, _COMMA = 34, 92, 44
_BRACE, _BRACE_END, _BRACKET, _BRACKET_END = 123, 125, 91, 93
_U = 117


class DuplicateKey(NamedTuple):
    """A key that its object names twice: the key, and the path of the object, ``$.accounts[0]``."""

    key: str
    path: str


def duplicate_key(body: bytes) -> DuplicateKey | None:
    """The first object, by its end, that names a key twice; None if there is none.

    Keys are compared as they read, so ``"\\u0061"`` is ``"a"``. The work grows with the length of
    the body alone.

    Parameters
    ----------
    body:
        Valid JSON in UTF-8.

    Raises
    ------
    UnicodeDecodeError
        A key on the way to what is repeated is not in UTF-8.
    """
    depth, at, path = _scan(np.frombuffer(body, np.uint8), _SEED)
    if at < 0:
        return None
    return DuplicateKey(_text(body, at), _path(body, path[:depth]))


def _path(body: bytes, steps: NDArray[np.int64]) -> str:
    """Steps are places of keys in the body, or indices of arrays as ``-1 - index``."""
    return "$" + "".join(
        f".{_text(body, step)}" if step >= 0 else f"[{-1 - step}]" for step in steps.tolist()
    )


def _text(body: bytes, at: int) -> str:
    """The text that begins with the quotation mark at a place."""
    end = at + 1
    while body[end] != _QUOTE:
        end += 2 if body[end] == _BACKSLASH else 1
    text: str = json.loads(body[at : end + 1].decode())
    return text


@njit(cache=True, error_model="numpy")
def _scan(body, seed):  # type: ignore[no-untyped-def]
    """Depth of the object, place of the key it names twice (-1: none), and steps to the object.

    Containers that are open make one stack, keys of open objects another; at the end of an object
    its keys are compared and taken off.
    """
    n = len(body)
    steps = np.empty(_START, np.int64)  # in an object its key, in an array -1 - index
    first = np.empty(_START, np.int64)  # its first key on the stack; -1 for an array
    places = np.empty(_START, np.int64)
    hashes = np.empty(_START, np.uint64)
    depth = keys = 0
    expects_key = False
    i = 0
    while i < n:
        c = body[i]
        if (c < _COMMA and c != _QUOTE) or _COMMA < c < _BRACKET:  # most of all: numbers, blanks
            i += 1
            continue
        if c == _QUOTE:
            place = i
            i += 1
            if expects_key:
                h = seed
                while body[i] != _QUOTE:
                    if body[i] == _BACKSLASH:
                        code, i = _escape(body, i)
                        # As its UTF-8 bytes are mixed in below.
                        if code < 0x80:
                            h = _mix(h, code)
                        elif code < 0x800:
                            h = _mix(_mix(h, 0xC0 | code >> 6), 0x80 | code & 0x3F)
                        elif code < 0x10000:
                            h = _mix(_mix(h, 0xE0 | code >> 12), 0x80 | code >> 6 & 0x3F)
                            h = _mix(h, 0x80 | code & 0x3F)
                        else:
                            h = _mix(_mix(h, 0xF0 | code >> 18), 0x80 | code >> 12 & 0x3F)
                            h = _mix(_mix(h, 0x80 | code >> 6 & 0x3F), 0x80 | code & 0x3F)
                    else:
                        h = _mix(h, body[i])
                        i += 1
                if keys == len(places):
                    places, hashes = _longer(places), _longer(hashes)
                places[keys], hashes[keys] = place, h
                keys += 1
                steps[depth - 1] = place
                expects_key = False
            else:
                while body[i] != _QUOTE:
                    i += 2 if body[i] == _BACKSLASH else 1
        elif c == _BRACE or c == _BRACKET:  # noqa: SIM109 - two comparisons compile to less
            if depth == len(steps):
                steps, first = _longer(steps), _longer(first)
            expects_key = c == _BRACE
            first[depth] = keys if expects_key else -1
            steps[depth] = -1
            depth += 1
        elif c == _BRACE_END:
            start = first[depth - 1]
            twice = _twice(places, hashes, start, keys)
            if twice >= 0:
                return depth - 1, twice, steps
            keys = start
            depth -= 1
            expects_key = False
        elif c == _BRACKET_END:
            depth -= 1
        elif c == _COMMA:
            if first[depth - 1] >= 0:
                expects_key = True
            else:
                steps[depth - 1] -= 1
        i += 1
    return 0, -1, steps


@njit(cache=True, error_model="numpy")
def _mix(h, byte):  # type: ignore[no-untyped-def]
    """A step of FNV-1a with a further shift, on 64 bits."""
    h = (h ^ np.uint64(byte)) * np.uint64(0x100000001B3)
    return h ^ (h >> np.uint64(29))


@njit(cache=True, error_model="numpy")
def _escape(body, i):  # type: ignore[no-untyped-def]
    """Code point of the escape at i, and where it ends; a pair of surrogates is one."""
    c = body[i + 1]
    if c != _U:
        for letter, code in ((98, 8), (102, 12), (110, 10), (114, 13), (116, 9)):
            if c == letter:
                return np.int64(code), i + 2
        return np.int64(c), i + 2
    code = _hex4(body, i + 2)
    i += 6
    if 0xD800 <= code < 0xDC00 and body[i] == _BACKSLASH and body[i + 1] == _U:
        low = _hex4(body, i + 2)
        if 0xDC00 <= low < 0xE000:
            return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), i + 6
    return code, i


@njit(cache=True, error_model="numpy")
def _hex4(body, i):  # type: ignore[no-untyped-def]
    value = np.int64(0)
    for k in range(i, i + 4):
        c = np.int64(body[k])
        value = value * 16 + (c - 48 if c < 58 else (c | 32) - 87)
    return value


@njit(cache=True, error_model="numpy")
def _twice(places, hashes, start, stop):  # type: ignore[no-untyped-def]
    """Place of the second of two equal keys, -1 if there are none."""
    if stop - start <= _SHORT:
        for second in range(start + 1, stop):
            for k in range(start, second):
                if hashes[k] == hashes[second]:
                    return places[second]
        return np.int64(-1)
    size = 16
    while size < 2 * (stop - start):
        size *= 2
    table = np.full(size, -1, np.int64)
    for second in range(start, stop):
        slot = np.int64(hashes[second] & np.uint64(size - 1))
        while table[slot] >= 0:
            if hashes[table[slot]] == hashes[second]:
                return places[second]
            slot = (slot + 1) & (size - 1)
        table[slot] = second
    return np.int64(-1)


@njit(cache=True, error_model="numpy")
def _longer(values):  # type: ignore[no-untyped-def]
    longer = np.empty(2 * len(values), values.dtype)
    longer[: len(values)] = values
    return longer
