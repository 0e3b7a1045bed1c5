"""The reference of the Python API: what the package `margincast` exports, for mkdocstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import margincast
from research.pages.markdown import table


def python_api() -> str:
    """Markdown: a table of the public names, then a directive for each, by kind and name."""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name in exported():
        found = getattr(margincast, name)
        is_error = isinstance(found, type) and issubclass(found, Exception)
        kind = "Errors" if is_error else "Classes" if isinstance(found, type) else "Functions"
        kinds[kind].append(name)
    rows = [
        (f"[`{name}`](#margincast.{name})", _first_line(name))
        for names in kinds.values()
        for name in names
    ]
    parts = ["## Names", table(("name", "what it does or is"), rows)]
    for kind, names in kinds.items():
        parts += [f"## {kind}", *(f"::: margincast.{name}" for name in names)]
    return "\n\n".join(parts)


def exported() -> Iterator[str]:
    """The functions and classes that the package exports, sorted by name."""
    for name in sorted(margincast.__all__):
        if not inspect.ismodule(getattr(margincast, name)):
            yield name


def _first_line(name: str) -> str:
    return (inspect.getdoc(getattr(margincast, name)) or "").partition("\n")[0]
