"""``python -m research.pages.notebooks``: execute the notebooks into ``var/notebooks``.

They read the champion and the runs of the demonstration in ``var/``, which
``margincast run --once`` trains.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from research.pages.site.notebook_page import EXECUTED, ROOT

NOTEBOOKS = ROOT / "notebooks"
SECONDS = 600
"""A cell that takes longer hangs."""


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook after its execution by this interpreter in a folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell raised an error.
    """
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",  # jupyter_client starts the running interpreter by this name
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"})
    return notebook


def main() -> None:
    """Execute every notebook."""
    EXECUTED.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(executed(path, NOTEBOOKS), EXECUTED / path.name)
        print(EXECUTED / path.name)


if __name__ == "__main__":
    main()
