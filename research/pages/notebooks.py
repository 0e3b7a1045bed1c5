"""``python -m research.pages.notebooks``: execute the notebooks into ``var/notebooks``.

They read the champion and the runs of the demonstration in ``var/``, which
``margincast run --once`` trains.
"""

from __future__ import annotations

import argparse
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
    """Execute every notebook, or those that are named."""
    parser = argparse.ArgumentParser(description="Execute the notebooks.")
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; none: all")
    parser.add_argument("--folder", type=Path, default=NOTEBOOKS, help="where they are executed")
    parser.add_argument("--out", type=Path, default=EXECUTED, help="folder of the executed copies")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for path in (NOTEBOOKS / f"{name}.ipynb" for name in names):
        nbformat.write(executed(path, given.folder), given.out / path.name)
        print(given.out / path.name)


if __name__ == "__main__":
    main()
