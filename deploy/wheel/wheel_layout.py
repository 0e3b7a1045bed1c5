"""Build hook of hatchling: the wheel holds one top-level package, ``margincast``.

``[tool.hatch.build.targets.wheel.sources]`` moves the folders of the repository into it. This hook
rewrites their absolute imports of each other, ``from features.x import y`` to
``from margincast.features.x import y``, at the positions that the syntax tree gives; docstrings,
comments and other texts stay as they are. It adds the configuration of the demonstration and
``sources.json``, by which an installed wheel names its code by the same digest as the repository
(`pipelines.data.provenance`). Editable installations use the folders as they are.

Reference: Hatch documentation, "Build hooks: custom".
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "margincast"
CONFIGURATION = "margincast.toml"
SOURCES = "sources.json"

_FROM = re.compile(r"from(?:\s|\\\n)+")


class WheelLayout(BuildHookInterface[BuilderConfig]):
    """The hook; hatchling finds it as the one class of this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the rewritten files to a wheel that is no editable one.

        Raises
        ------
        ValueError
            A file cannot be rewritten, or two would have one place in the wheel.
        """
        if version == "editable":
            return
        self._folder = TemporaryDirectory()
        try:
            build_data["force_include"].update(self._added(Path(self._folder.name)))
        except ValueError:
            self._folder.cleanup()
            raise

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the rewritten files, which are in the wheel now."""
        if version != "editable":
            self._folder.cleanup()

    def _added(self, out: Path) -> dict[str, str]:
        """Files to add, by path, with their place in the wheel; written to `out` as needed."""
        moved = {path.rstrip("/\\") for path in self.build_config.sources}
        added = {str(Path(self.root, CONFIGURATION)): f"{PACKAGE}/{CONFIGURATION}"}
        sources: dict[str, dict[str, str]] = {}
        taken = {f"{PACKAGE}/{name}": f"the hook's {name}" for name in (CONFIGURATION, SOURCES)}
        for file in self.build_config.builder.recurse_selected_project_files():
            place = Path(file.distribution_path).as_posix()
            other = taken.setdefault(place, file.relative_path)
            if other != file.relative_path:
                raise ValueError(f"{file.relative_path} and {other} would both be {place}")
            if not place.endswith((".py", ".pyi")):
                continue
            content = Path(file.path).read_bytes()
            try:
                packed = rewritten(content.decode(), moved).encode()
            except ValueError as error:
                raise ValueError(f"{file.relative_path}: {error}") from None
            if packed != content:
                target = out / place
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(packed)
                added[str(target)] = place
                sources[place.removeprefix(f"{PACKAGE}/")] = {
                    "packed": hashlib.sha256(packed).hexdigest(),
                    "repository": hashlib.sha256(content).hexdigest(),
                }
        listing = out / SOURCES
        listing.write_text(json.dumps(sources, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        added[str(listing)] = f"{PACKAGE}/{SOURCES}"
        return added


def rewritten(source: str, moved: Collection[str]) -> str:
    """The source with its absolute imports of the moved packages below ``margincast``.

    Raises
    ------
    ValueError
        It imports ``a.b`` and binds ``a``, or names a module of a moved package in a text where
        only the module's own ``__name__`` or ``__package__`` is right in both layouts.
    """
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def position(line: int, column: int) -> int:
        """Of a place that the syntax tree gives, whose columns count bytes of UTF-8."""
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    inserted: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _top(alias.name) in moved:
                    inserted.append((position(alias.lineno, alias.col_offset), f"{PACKAGE}."))
                    end = position(alias.end_lineno or 0, alias.end_col_offset or 0)
                    inserted += [(end, text) for text in _bound(alias, node.lineno)]
        elif isinstance(node, ast.ImportFrom):
            if not node.level and _top(node.module or "") in moved:
                keyword = _FROM.match(source, position(node.lineno, node.col_offset))
                if keyword is None:
                    raise ValueError(f"line {node.lineno}: no import begins here")
                inserted.append((keyword.end(), f"{PACKAGE}."))
        elif isinstance(node, ast.Call):
            _refuse_named_modules(node, moved)
    for place, text in sorted(inserted, reverse=True):
        source = source[:place] + text + source[place:]
    return source


def _bound(alias: ast.alias, line: int) -> Iterator[str]:
    """What keeps an import binding the name that it bound."""
    if alias.asname is None:
        if "." in alias.name:
            raise ValueError(
                f"line {line}: import {alias.name} binds {_top(alias.name)!r}, which the wheel "
                f"moves; write from {alias.name.rpartition('.')[0]} import …"
            )
        yield f" as {alias.name}"


def _refuse_named_modules(call: ast.Call, moved: Collection[str]) -> None:
    """Refuse a text that a function of the import system, or an interpreter, reads as a module."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    values = [*call.args, *(word.value for word in call.keywords if word.arg == "loader_module")]
    if function not in ("import_module", "find_spec", "files", "run_module", "__import__"):
        values = values[len(call.args) :]
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else None
        if isinstance(text, str) and _top(text) in moved:
            raise ValueError(
                f"line {call.lineno}: {text!r} names a module by where it is in the repository; "
                "use __package__, or __name__ of the imported module"
            )


def _top(module: str) -> str:
    return module.partition(".")[0]
