"""A notebook as a page of the site, with the outputs of ``make notebooks`` where they are there.

A notebook is read as JSON: the import of nbformat takes longer than all notebooks' pages.

Reference: nbformat 4, "The Notebook file format".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
EXECUTED = ROOT / "var" / "notebooks"

_STYLE = re.compile(r"<style.*?</style>\s*", re.DOTALL)
_TABLE = re.compile(r"<table[^>]*>")
_NOT_EXECUTED = """!!! note "Without outputs"
    This site was built without executed notebooks: `make notebooks site` executes them first."""


def notebook_page(path: Path, executed: Path = EXECUTED) -> str:
    """Markdown of a notebook: its cells, and the outputs of an executed copy with the same cells.

    Parameters
    ----------
    path:
        The committed notebook, which has no outputs.
    executed:
        Folder of executed copies; without one, or with that of other cells, the page says so.
    """
    cells, copy = _cells(path), executed / path.name
    found = _cells(copy) if copy.is_file() else []
    is_executed = [_source(cell) for cell in found] == [_source(cell) for cell in cells]
    parts = []
    for cell in found if is_executed else cells:
        if cell["cell_type"] == "markdown":
            parts.append(_source(cell))
        else:
            parts.append(f"```python\n{_source(cell)}\n```")
            parts += [shown for output in cell["outputs"] if (shown := _shown(output))]
    if not is_executed:
        parts.insert(1, _NOT_EXECUTED)  # below the title
    return "\n\n".join(parts) + "\n"


def _cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def _source(cell: Mapping[str, Any]) -> str:
    return _text(cell["source"])


def _text(value: str | list[str]) -> str:
    """A multi-line string of the format, which may be kept as a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def _shown(output: Mapping[str, Any]) -> str:
    """A result or picture as Markdown; what is written to a stream is left out."""
    data = {kind: _text(value) for kind, value in output.get("data", {}).items()}
    if "image/png" in data:
        picture = data["image/png"].strip().replace("\n", "")
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{picture}">'
    if "text/html" in data:
        return _plain_table(data["text/html"])
    if "text/plain" in data:
        return f"```text\n{data['text/plain']}\n```"
    return ""


def _plain_table(html: str) -> str:
    """A frame without its own style and attributes: the theme styles only such a table."""
    return _TABLE.sub("<table>", _STYLE.sub("", html)).replace("\n", "")
