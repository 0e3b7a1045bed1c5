"""Plain content as TOML text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 100


def toml_text(content: Mapping[str, Any]) -> str:
    """TOML of nested tables of text, numbers, truth values and lists; None is left out.

    Tables inside lists are written inline. ``tomllib.loads`` gives the content back, floats to
    the last bit.
    """
    return "\n".join(_table(content, ())).strip("\n") + "\n"


def _table(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = {key: value for key, value in content.items() if not _is_table(value)}
    tables = {key: value for key, value in content.items() if _is_table(value)}
    if path and (plain or not tables):
        yield ""
        yield f"[{'.'.join(_key(part) for part in path)}]"
    for key, value in plain.items():
        if value is not None:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        yield from _table(value, (*path, key))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, and DEL needs one as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None
        )
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return _list([_value(each) for each in value])
    raise TypeError(f"{type(value).__name__} has no place in TOML")


def _list(values: list[str]) -> str:
    line = f"[{', '.join(values)}]"
    if len(line) <= _WIDTH - 20:
        return line
    rows, row = [], ""
    for value in values:
        if row and len(row) + len(value) > _WIDTH - 6:
            rows.append(row)
            row = ""
        row += f"{value}, "
    rows.append(row)
    return "[\n" + "\n".join(f"    {row.rstrip()}" for row in rows) + "\n]"
