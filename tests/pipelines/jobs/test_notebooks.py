"""The notebooks run on a trained market, are committed without outputs, and the first is short."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from research.pages.notebooks import NOTEBOOKS
from research.pages.site.notebook_page import notebook_page

NAMES = ("features", "mlflow_review", "quick_start", "training", "what_if")


def code(name: str) -> list[str]:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", nbformat.NO_CONVERT)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_is_listed() -> None:
    assert tuple(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))) == NAMES


def test_frame_to_add_ons_takes_less_than_thirty_lines() -> None:
    lines = [line for source in code("quick_start") for line in source.splitlines() if line.strip()]
    assert 10 < len(lines) < 30
    calls = {
        ast.unparse(node) for source in code("quick_start") for node in ast.walk(ast.parse(source))
    }
    assert {"mc.score", "mc.load_champion", "pd.DataFrame"} <= calls


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_committed_without_outputs(name: str) -> None:
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert notebook.metadata.kernelspec.name == "python3"
    text = path.read_text(encoding="utf-8")
    assert not [place for place in ("/home/", "/root/", "/tmp/", "/work/") if place in text]  # noqa: S108


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(name: str, trained: Any, tmp_path: Path) -> None:
    folder = trained.workspace.folder / "notebooks"
    folder.mkdir(exist_ok=True)
    program = [sys.executable, "-m", "research.pages.notebooks", name]
    done = subprocess.run(
        [*program, "--folder", str(folder), "--out", str(tmp_path)],
        cwd=NOTEBOOKS.parent,
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / f"{name}.ipynb", nbformat.NO_CONVERT)
    results = [
        output.data["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result"
    ]
    assert results
    page = notebook_page(NOTEBOOKS / f"{name}.ipynb", tmp_path)
    assert page.count("```python\n") == len(code(name))
    assert "<table" in page or "```text" in page
    assert "<style" not in page


@pytest.mark.slow
def test_program_of_the_readme_runs(trained: Any) -> None:
    text = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=trained.workspace.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:5] == ["account_id", "headroom", "p_24", "add_on", "binding"]


def test_page_shows_no_outputs_of_other_cells(tmp_path: Path) -> None:
    path = NOTEBOOKS / "features.ipynb"
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    output = nbformat.v4.new_output("execute_result", {"text/plain": "seen"})
    notebook.cells[1].outputs = [output]
    nbformat.write(notebook, tmp_path / path.name)
    assert "```text\nseen\n```" in notebook_page(path, tmp_path)
    notebook.cells[1].source += "  # edited"
    nbformat.write(notebook, tmp_path / path.name)
    assert "seen" not in notebook_page(path, tmp_path)
