"""The reference of the Python API: what the package `margincast` exports, for mkdocstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "margincast"


def python_api() -> str:
    """Markdown: a directive for each public name, functions first, errors last."""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for path in exported():
        _, module, *_, name = path.split(".")
        kind = "Errors" if module == "errors" else "Classes" if name[0].isupper() else "Functions"
        kinds[kind].append(f"::: {path}")
    return "\n\n".join(f"## {kind}\n\n" + "\n\n".join(names) for kind, names in kinds.items())


def exported() -> Iterator[str]:
    """The dotted path of each function and class that the package's stub exports."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{PACKAGE.name}.{node.module}.{alias.name}" for alias in node.names)
