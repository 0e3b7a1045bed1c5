"""Canonical JSON: one and only one sequence of bytes for a value, fit for hashing.

Object keys are sorted by code point, there is no white space, text is UTF-8, integers are
written in full and floats by the shortest decimal that reads back to the same 64 bits. The
standard library writes it, because the language guarantees that spelling of a float: a hash must
not change with the version of a package.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from market.core.errors import LedgerError, UnrecordableError

_ENCODER = json.JSONEncoder(
    ensure_ascii=False,
    check_circular=False,
    allow_nan=False,
    sort_keys=True,
    separators=(",", ":"),
)


def canonical_bytes(value: object, *, text_keys: bool = False) -> bytes:
    """Canonical JSON of a value.

    Parameters
    ----------
    value:
        None, bool, int, finite float, str, and lists, tuples and str-keyed dicts of them. A
        tuple is written as a list.
    text_keys:
        Every key at every depth is known to be text, as in what `msgspec.to_builtins` makes with
        ``str_keys=True`` and in what was read from JSON. Then the encoder alone refuses the rest,
        and the value is not walked in Python.

    Returns
    -------
    bytes
        UTF-8 text; `read_canonical` gives the value back, every float bit for bit.

    Raises
    ------
    UnrecordableError
        The value holds NaN, an infinity, a key that is not text, a lone surrogate, a type JSON
        does not have, or itself. The message names the path, as in ``$.probability.24``.

    References
    ----------
    RFC 8785, JSON Canonicalization Scheme. It differs in two points: floats are spelled as
    Python's `repr`, and integers above 2**53 (nanoseconds) are allowed.
    """
    try:
        if not text_keys:
            _refuse_foreign(value, "$")
        return _ENCODER.encode(value).encode()
    except RecursionError:
        raise UnrecordableError(
            "the value to record is nested too deeply or contains itself; flatten it"
        ) from None
    except (TypeError, ValueError) as error:
        _refuse_foreign(value, "$")  # names the path, which the encoder does not
        raise UnrecordableError(f"the value to record has no canonical JSON: {error}") from error


def read_canonical(text: str | bytes) -> Any:
    """Read what `canonical_bytes` wrote.

    Raises
    ------
    LedgerError
        The text is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"the recorded text is not JSON ({error}); it was altered") from error


def sha256_of(value: object) -> str:
    """SHA-256 of a value's canonical JSON, in lower-case hexadecimal; raises as it does."""
    return sha256_hex(canonical_bytes(value))


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes in lower-case hexadecimal (FIPS 180-4)."""
    return hashlib.sha256(data).hexdigest()


def _refuse_foreign(value: object, path: str) -> None:
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnrecordableError(f"{path} is {value!r}; a record holds finite numbers, or null")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UnrecordableError(
                    f"{path} has the key {key!r}; keys must be text, convert it"
                )
            _refuse_foreign(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_foreign(item, f"{path}[{index}]")
    else:
        raise UnrecordableError(
            f"{path} is a {type(value).__module__}.{type(value).__qualname__}; a record holds "
            "None, bool, int, float, str, list and dict, convert it first"
        )
