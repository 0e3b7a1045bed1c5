"""A notebook as a page of the site, with the outputs of ``make notebooks`` where they are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[3]
EXECUTED = ROOT / "var" / "notebooks"

_STYLE = re.compile(r"<style.*?</style>\s*", re.DOTALL)


def notebook_page(path: Path, executed: Path = EXECUTED) -> str:
    """Markdown of a notebook: its cells, and the outputs of an executed copy with the same cells.

    Parameters
    ----------
    path:
        The committed notebook, which has no outputs.
    executed:
        Folder of executed copies; an absent or outdated one adds nothing.
    """
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    copy = executed / path.name
    if copy.is_file():
        found = nbformat.read(copy, nbformat.NO_CONVERT)
        if [cell.source for cell in found.cells] == [cell.source for cell in notebook.cells]:
            notebook = found
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(f"```python\n{cell.source}\n```")
            parts += [shown for output in cell.outputs if (shown := _shown(output))]
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str:
    """A result or picture as Markdown; what is written to a stream is left out."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = data["image/png"].strip().replace("\n", "")
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{picture}">'
    if "text/html" in data:
        return _STYLE.sub("", data["text/html"]).replace("\n", "")
    if "text/plain" in data:
        return f"```text\n{data['text/plain']}\n```"
    return ""
